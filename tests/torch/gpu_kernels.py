"""Gradients of the attention kernels that PyTorch runs on a GPU, judged: all of them are right, so all have to pass.

    python tests/torch/gpu_kernels.py target/release/sus-oracle FOLDER

Kernels: `scaled_dot_product_attention` by its flash, memory-efficient and cuDNN backends, FlexAttention, and attention
written out. 12 shapes, dense or causal, in bf16 and f16, with small and large scores and cotangents. Problems and
candidates stay in FOLDER. Ends with 1 if any fails, or if there is none.
"""

import collections
import json
import re
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
# Positions, features, heads, causal, scale of q, scale of do.
SHAPES = [
    (7, 16, 4, True, 1, 1),
    (17, 32, 1, False, 1, 1),
    (33, 16, 2, True, 2, 1),
    (64, 64, 2, True, 1, 1),
    (64, 128, 1, True, 0.5, 4),
    (96, 64, 2, False, 4, 1),
    (100, 64, 1, False, 3, 1),
    (128, 64, 1, True, 1, 0.01),
    (128, 32, 2, False, 0.3, 1),
    (200, 64, 1, True, 2, 1),
    (256, 64, 1, False, 1, 1),
    (300, 32, 1, True, 1, 1),
]


def backend(name):
    def attention(q, k, v, causal):
        with sdpa_kernel(BACKENDS[name]):
            return scaled_dot_product_attention(q, k, v, is_causal=causal)

    return attention


def eager(q, k, v, causal):
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ v


def flex(q, k, v, causal):
    mask = None
    if causal:
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, q.shape[2], k.shape[2], device=q.device)
    # Without `dynamic` it would stop compiling after a few shapes.
    return torch.compile(flex_attention, dynamic=False)(q, k, v, block_mask=mask)


def main(command, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch._dynamo.config.recompile_limit = 64
    kernels = {name: backend(name) for name in BACKENDS} | {"eager": eager, "flex": flex}
    outcomes, largest = collections.Counter(), collections.defaultdict(float)
    for dtype, short in [(torch.bfloat16, "bf16"), (torch.float16, "f16")]:
        for number, (n, features, heads, causal, scale_q, scale_do) in enumerate(SHAPES):
            torch.manual_seed(number)
            normal = lambda scale: (scale * torch.randn(1, heads, n, features, device="cuda")).to(dtype)  # noqa: E731
            q, k, v, do = normal(scale_q), normal(1), normal(1), normal(scale_do)
            stored = lambda **tensors: {key: x.detach().cpu().contiguous() for key, x in tensors.items()}  # noqa: E731
            settings = {"spec": "sus-oracle/1", "pass": "dense", "causal": causal, "alignment": "top-left"}
            problem = folder / f"{short}_{number}.safetensors"
            save_file(stored(q=q, k=k, v=v, do=do), problem, metadata={"sus_oracle": json.dumps(settings)})
            for name, attention in kernels.items():
                inputs = [x.clone().requires_grad_() for x in (q, k, v)]
                try:
                    o = attention(*inputs, causal)
                    dq, dk, dv = torch.autograd.grad(o, inputs, do)
                except Exception as error:  # a backend need not have every shape
                    print(f"not run  {name} {problem.stem}: {str(error).splitlines()[0][:80]}")
                    continue
                candidate = folder / f"{short}_{number}_{name}.safetensors"
                save_file(stored(o=o, dq=dq, dk=dk, dv=dv), candidate)
                recipe = f"{'eager' if name == 'eager' else 'flash'}-{short}"
                said = subprocess.run([command, "check", problem, candidate, "--recipe", recipe], capture_output=True, text=True)
                outcomes[name, said.returncode] += 1
                for used in re.findall(r"^d[qkv] .*max \|err\|/bound ([0-9.]+)", said.stdout, re.M):
                    largest[name, short] = max(largest[name, short], float(used))
                if said.returncode:
                    print(f"exit {said.returncode}  {name} {problem.stem}\n{said.stdout}{said.stderr}")
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
    for name in kernels:
        of = {code: count for (kernel, code), count in outcomes.items() if kernel == name}
        used = ", ".join(f"{short} {largest[name, short]:.2f}" for short in ("bf16", "f16"))
        print(f"{name:<17} {of.get(0, 0):3d} of {sum(of.values()):3d} pass; largest error over bound of a gradient: {used}")
    return not outcomes or any(code for _, code in outcomes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
