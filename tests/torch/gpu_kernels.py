"""Gradients of attention kernels that people run on a GPU, judged: all of them are right, so all have to pass.

    python tests/torch/gpu_kernels.py COMMAND FOLDER [--store tests/torch/gpu]

COMMAND is `target/release/sus-oracle`. Kernels: PyTorch's `scaled_dot_product_attention` by its flash, memory-efficient, cuDNN and
math backends and on the CPU, FlexAttention, attention written out; JAX by XLA and by cuDNN; the eager attention of transformers
(Llama, Gemma 2, gpt-oss); a Triton kernel. In bf16, f16, float32 and float32 with TF32 products. What is not installed, or a shape that
a kernel does not have, is named and left out. Problems and candidates stay in FOLDER; `--store` keeps the small ones.
Ends with 1 if a kernel fails, or if there is none.
"""

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "tf32": torch.float32}
GRADIENTS = ["dq", "dk", "dv"]


class Shape:
    """A problem: queries, keys, features, heads, and what it has beside them."""

    def __init__(self, name, nq, nk, features, heads, key_heads, *, values=None, causal=False, softcap=None, mask=False, sink=False, size=1.0, small=False):
        self.name, self.nq, self.nk, self.features, self.heads, self.key_heads = name, nq, nk, features, heads, key_heads
        self.values, self.causal, self.softcap, self.mask, self.sink, self.size = values or features, causal, softcap, mask, sink, size
        self.small = small

    def settings(self):
        return {"spec": "sus-oracle/1", "pass": "dense", "causal": self.causal, "alignment": "top-left"} | (
            {"softcap": self.softcap} if self.softcap else {}
        )

    def tensors(self, dtype):
        make = torch.Generator().manual_seed(sum(map(ord, self.name)))
        normal = lambda *shape: torch.randn(*shape, generator=make).to(dtype)  # noqa: E731
        x = {
            "q": self.size * normal(1, self.heads, self.nq, self.features),
            "k": normal(1, self.key_heads, self.nk, self.features),
            "v": normal(1, self.key_heads, self.nk, self.values),
            "do": normal(1, self.heads, self.nq, self.values),
        }
        if self.mask:  # as transformers writes a mask
            seen = torch.ones(self.nq, self.nk, dtype=torch.bool).tril(self.nk - self.nq)
            x["bias"] = torch.zeros(1, 1, self.nq, self.nk, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        if self.sink:
            x["sink"] = normal(self.heads)
        return x


SHAPES = [
    Shape("groups", 20, 20, 64, 2, 1, causal=True, small=True),
    Shape("cross", 11, 24, 64, 1, 1, small=True),
    Shape("d72", 20, 20, 72, 1, 1, small=True),
    Shape("d96", 20, 20, 96, 1, 1, causal=True, small=True),
    Shape("d192_128", 18, 18, 192, 1, 1, values=128, causal=True, small=True),
    Shape("mask", 20, 20, 64, 1, 1, mask=True, small=True),
    Shape("softcap", 20, 20, 64, 1, 1, causal=True, softcap=20.0, small=True),
    Shape("sink", 20, 20, 64, 1, 1, mask=True, sink=True, small=True),
    Shape("d104", 33, 33, 104, 1, 1, causal=True),
    Shape("d256", 33, 33, 256, 1, 1, causal=True),
    Shape("peaked", 64, 64, 64, 2, 2, size=4.0),
    Shape("odd", 77, 77, 64, 4, 4, causal=True),
    Shape("long", 300, 300, 64, 4, 1, causal=True),
]


def repeated(x, shape):
    return {name: x[name].repeat_interleave(shape.heads // shape.key_heads, 1) for name in "kv"}


def by_autograd(function, x, shape):
    inputs = {name: x[name].clone().requires_grad_() for name in "qkv"}
    sink = {"sink": x["sink"].clone().requires_grad_()} if shape.sink else {}
    o = function(inputs | sink, x.get("bias"))
    wanted = inputs | sink
    of = torch.autograd.grad(o, list(wanted.values()), x["do"])
    return {"o": o} | {f"d{name}": g for name, g in zip(wanted, of)}


def sdpa(backend):
    def run(x, shape, dtype):
        def attention(inputs, bias):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(
                    inputs["q"], inputs["k"], inputs["v"], attn_mask=bias, is_causal=shape.causal, enable_gqa=shape.heads > shape.key_heads
                )

        return by_autograd(attention, x, shape)

    return run


def sdpa_cpu(x, shape, dtype):
    def attention(inputs, bias):
        return scaled_dot_product_attention(
            inputs["q"], inputs["k"], inputs["v"], attn_mask=bias, is_causal=shape.causal, enable_gqa=shape.heads > shape.key_heads
        )

    return by_autograd(attention, {name: t.cpu() for name, t in x.items()}, shape)


def eager(x, shape, dtype):
    def attention(inputs, bias):
        k, v = repeated(inputs, shape).values()
        scores = (inputs["q"] @ k.mT) * shape.features**-0.5
        if shape.softcap:
            scores = shape.softcap * torch.tanh(scores / shape.softcap)
        if bias is not None:
            scores = scores + bias
        if shape.causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) @ v

    return by_autograd(attention, x, shape)


def flex(x, shape, dtype):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.config.recompile_limit = 64

    def attention(inputs, bias):
        mask = None
        if shape.causal:
            mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, shape.nq, shape.nk, device=inputs["q"].device)

        def score(s, b, h, i, j):
            s = shape.softcap * torch.tanh(s / shape.softcap) if shape.softcap else s
            return s if bias is None else s + bias[0, 0, i, j]

        changes = score if shape.softcap or bias is not None else None
        # Without `dynamic` it would stop compiling after a few shapes.
        compiled = torch.compile(flex_attention, dynamic=False)
        return compiled(inputs["q"], inputs["k"], inputs["v"], score_mod=changes, block_mask=mask, enable_gqa=shape.heads > shape.key_heads)

    return by_autograd(attention, x, shape)


def jax_attention(implementation):
    def run(x, shape, dtype):
        import jax
        import jax.numpy as jnp

        def array(t):  # [B, H, N, D] to [B, N, H, D]
            name = {torch.bfloat16: jnp.bfloat16, torch.float16: jnp.float16, torch.float32: jnp.float32}[t.dtype]
            return jnp.asarray(t.float().cpu().numpy()).astype(name).swapaxes(1, 2)

        bias = None if "bias" not in x else array(x["bias"]).swapaxes(1, 2)

        def attention(q, k, v):
            return jax.nn.dot_product_attention(q, k, v, bias=bias, is_causal=shape.causal, implementation=implementation)

        precision = "highest" if dtype == "f32" else "default"
        with jax.default_matmul_precision(precision):
            o, vjp = jax.vjp(attention, *(array(x[name]) for name in "qkv"))
            of = vjp(array(x["do"]))
        back = lambda t: torch.tensor(jax.device_get(t.swapaxes(1, 2).astype(jnp.float32))).to(DTYPES[dtype])  # noqa: E731
        return {"o": back(o)} | {f"d{name}": back(g) for name, g in zip("qkv", of)}

    return run


def transformers_eager(model):
    def run(x, shape, dtype):
        import importlib

        function = importlib.import_module(f"transformers.models.{model}.modeling_{model}").eager_attention_forward

        class Layer(torch.nn.Module):
            num_key_value_groups = shape.heads // shape.key_heads
            head_dim = shape.features

        def attention(inputs, bias):
            layer = Layer().eval()
            layer.sinks = inputs.get("sink")
            mask = bias
            if shape.causal:
                seen = torch.ones(shape.nq, shape.nk, dtype=torch.bool, device=x["q"].device).tril()
                mask = torch.zeros(1, 1, shape.nq, shape.nk, dtype=x["q"].dtype, device=x["q"].device)
                mask = mask.masked_fill(~seen, torch.finfo(x["q"].dtype).min)
            more = {"softcap": shape.softcap} if model == "gemma2" else {}
            o, _ = function(layer, inputs["q"], inputs["k"], inputs["v"], mask, scaling=shape.features**-0.5, dropout=0.0, **more)
            return o.transpose(1, 2)

        return by_autograd(attention, x, shape)

    return run


def triton_kernel(x, shape, dtype):
    from triton_attention import attention

    precision = "ieee" if dtype == "f32" else "tf32"
    return attention(x["q"], x["k"], x["v"], x["do"], shape.causal, precision)


class Kernel:
    """A kernel, the dtypes and the shapes that it has, and the recipe of its results."""

    def __init__(self, run, recipe, has=lambda shape: not shape.sink, dtypes=("bf16", "f16", "f32", "tf32")):
        self.run, self.recipe, self.has, self.dtypes = run, recipe, has, dtypes


def flash(shape, dtype):
    return f"flash-{dtype}" if dtype in ("bf16", "f16") else dtype


def outside(shape, dtype):
    """The gradients of a group are summed outside of the kernel."""
    grouped = "-repeated" if shape.heads > shape.key_heads and dtype != "tf32" else ""
    return flash(shape, dtype) + grouped


def written_out(shape, dtype):
    return f"eager-{dtype}" if dtype in ("bf16", "f16") else {"f32": "f32-repeated"}.get(dtype, dtype)


def gpt_oss(shape, dtype):
    return RECIPES / "transformers-gpt-oss-bf16.toml" if dtype == "bf16" else written_out(shape, dtype)


plain = lambda shape: not (shape.softcap or shape.mask or shape.sink)  # noqa: E731
no_softcap = lambda shape: not (shape.softcap or shape.sink)  # noqa: E731
SIXTEEN = ("bf16", "f16")
KERNELS = {
    "sdpa_flash": Kernel(sdpa(SDPBackend.FLASH_ATTENTION), outside, lambda shape: plain(shape) and shape.features == shape.values, SIXTEEN),
    "sdpa_efficient": Kernel(sdpa(SDPBackend.EFFICIENT_ATTENTION), outside, lambda shape: no_softcap(shape) and shape.heads == shape.key_heads),
    "sdpa_cudnn": Kernel(sdpa(SDPBackend.CUDNN_ATTENTION), outside, no_softcap, SIXTEEN),
    "sdpa_math": Kernel(sdpa(SDPBackend.MATH), written_out, no_softcap),
    "sdpa_cpu": Kernel(
        sdpa_cpu,
        lambda shape, dtype: RECIPES / "pytorch-cpu-bf16.toml" if dtype == "bf16" else "f32-repeated",
        no_softcap,
        ("bf16", "f32"),
    ),
    "flex": Kernel(flex, flash, lambda shape: shape.features in (64, 128, 256) and shape.features == shape.values),
    "eager": Kernel(eager, written_out),
    "jax_xla": Kernel(jax_attention("xla"), written_out, no_softcap),
    "jax_cudnn": Kernel(jax_attention("cudnn"), outside, lambda shape: plain(shape) and shape.features == shape.values, SIXTEEN),
    "llama": Kernel(transformers_eager("llama"), written_out, no_softcap),
    "gemma2": Kernel(transformers_eager("gemma2"), written_out, lambda shape: bool(shape.softcap)),
    "gpt_oss": Kernel(transformers_eager("gpt_oss"), gpt_oss, lambda shape: shape.sink),
    "triton": Kernel(triton_kernel, flash, lambda shape: plain(shape) and shape.features in (64, 128, 256) and shape.features == shape.values),
}


def is_stored(name, shape, dtype):
    """A part of the small results, so that they stay below 2 MB."""
    if name in ("llama", "sdpa_math"):
        return shape.mask and dtype in ("bf16", "tf32")
    return dtype in ("bf16", "tf32") or (shape.name == "groups" and name in ("sdpa_flash", "flex", "jax_cudnn", "triton"))


def stored(tensors):
    return {name: x.detach().cpu().contiguous() for name, x in tensors.items()}


def judged(command, problem, candidate, recipe):
    said = subprocess.run([command, "check", problem, candidate, "--recipe", recipe, "--json"], capture_output=True, text=True)
    if not said.stdout:
        return "ERROR", said.stderr.strip(), {}
    report = json.loads(said.stdout)
    used = {of["name"]: (of["worst"] or {}).get("error_over_bound", 0.0) for of in report["tensors"]}
    findings = ", ".join(f"{of['tensor']} {of['rule']}" for of in report["findings"])
    return report["verdict"], findings, used


def main(command, folder, store, dtypes, shapes):
    folder.mkdir(parents=True, exist_ok=True)
    outcomes, largest, index = collections.Counter(), collections.defaultdict(float), []
    for dtype in dtypes:
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        for shape in shapes:
            held = shape.tensors(DTYPES[dtype])
            problem = folder / f"{shape.name}__{'f32' if dtype == 'tf32' else dtype}.safetensors"
            save_file(stored(held), problem, metadata={"sus_oracle": json.dumps(shape.settings())})
            x = {name: t.cuda() for name, t in held.items()}
            for name, kernel in KERNELS.items():
                if dtype not in kernel.dtypes or not kernel.has(shape):
                    continue
                try:
                    results = stored(kernel.run(x, shape, dtype))
                except Exception as error:  # a kernel need not have every shape
                    print(f"not run  {name} {shape.name} {dtype}: {str(error).splitlines()[0][:120]}", flush=True)
                    continue
                candidate = folder / f"{shape.name}__{dtype}__{name}.safetensors"
                save_file(results, candidate)
                recipe = str(kernel.recipe(shape, dtype))
                verdict, findings, used = judged(command, problem, candidate, recipe)
                outcomes[name, verdict] += 1
                largest[name] = max([largest[name], *(used.get(gradient, 0.0) or 0.0 for gradient in GRADIENTS)])
                if verdict != "PASS":
                    print(f"{verdict}  {name} {shape.name} {dtype} at {Path(recipe).name}: {findings}", flush=True)
                elif shape.small and is_stored(name, shape, dtype):
                    index.append({"problem": problem.name, "candidate": candidate.name, "kernel": name, "recipe": Path(recipe).name})
    versions = {"torch": torch.__version__, "device": torch.cuda.get_device_name()}
    for module in ("triton", "jax", "transformers"):
        if module in sys.modules:
            versions[module] = sys.modules[module].__version__
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for name in KERNELS:
        of = {verdict: count for (kernel, verdict), count in outcomes.items() if kernel == name}
        print(f"{name:<15} {of.get('PASS', 0):3d} of {sum(of.values()):3d} pass; largest error over bound of a gradient {largest[name]:.2f}")
    if store:
        store.mkdir(parents=True, exist_ok=True)
        for name in {of[key] for of in index for key in ("problem", "candidate")}:
            shutil.copy(folder / name, store / name)
        (store / "index.json").write_text(json.dumps({"versions": versions, "results": index}, indent=1) + "\n")
    return not outcomes or any(verdict != "PASS" for _, verdict in outcomes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", help="the command: target/release/sus-oracle")
    parser.add_argument("folder", type=Path, help="where problems and candidates are written")
    parser.add_argument("--store", type=Path, help="a folder for small problems and the results that pass")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="of bf16, f16, f32, tf32; by commas")
    parser.add_argument("--small", action="store_true", help="the small problems alone")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    shapes = [shape for shape in SHAPES if shape.small or not arguments.small]
    sys.exit(main(arguments.command, arguments.folder, arguments.store, arguments.dtypes.split(","), shapes))
