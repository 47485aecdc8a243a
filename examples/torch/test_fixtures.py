"""Fixtures in a PyTorch test suite: how to hold a kernel against them.

    python -m pytest examples/torch          or          python examples/torch/test_fixtures.py OUT

`dense` and `sus` below stand for your kernels; replace them. As they are, `dense` is automatic differentiation of the
definition, and `sus` an autograd function with the sampled backward pass, mask and all. Needs torch, numpy, safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "fixtures" / "smoke"
sys.path.insert(0, str(HERE.parent / "python"))
from philox import words  # noqa: E402

DENSE = ["primes", "causal_square", "group_3_ramps", "scale", "tiny_cotangent"]
SUS = ["sus_bernoulli_paper", "sus_heads", "sus_stream", "sus_seed_above_32_bits"]


def load(name):
    path = FIXTURES / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["sus_oracle"]), load_file(path)


def weights(settings, q, k):
    """The softmax, with the causal mask at the bottom right."""
    scores = settings.get("scale", q.shape[-1] ** -0.5) * q @ k.transpose(-1, -2)
    if settings.get("causal", False):
        queries, keys = scores.shape[-2:]
        seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        scores = scores.masked_fill(~seen, -torch.inf)
    return torch.softmax(scores, -1)


def dense(settings, q, k, v):
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    return weights(settings, q, k) @ v


class Sus(torch.autograd.Function):
    """Attention whose backward pass replaces W by W~ = m max(W, 1/c)."""

    @staticmethod
    def forward(ctx, settings, q, k, v):
        w = weights(settings, q, k)
        o = w @ v
        ctx.settings = settings
        ctx.save_for_backward(q, k, v, w, o)
        return o

    @staticmethod
    def backward(ctx, g):
        q, k, v, w, o = ctx.saved_tensors
        s = ctx.settings
        x = torch.from_numpy(words(s["seed"], s["stream"], *w.shape).astype("int64"))
        cw = s["c"] * w
        kept = (cw >= 1) | (x.to(torch.float64) < cw.double() * 2.0**32)
        sampled = torch.where(kept, w.clamp(min=1 / s["c"]), 0)
        t = g @ v.transpose(-1, -2) - (g * o).sum(-1, keepdim=True)
        ds = s.get("scale", q.shape[-1] ** -0.5) * sampled * t
        return None, ds @ k, ds.transpose(-1, -2) @ q, sampled.transpose(-1, -2) @ g


def sus(settings, q, k, v):
    group = q.shape[1] // k.shape[1]
    return Sus.apply(settings, q, *(x.repeat_interleave(group, 1) for x in (k, v)))


def gradients(name, kernel, dtype):
    settings, case = load(name)
    q, k, v = (case[n].to(dtype).requires_grad_() for n in ("q", "k", "v"))
    o = kernel(settings, q, k, v)
    dq, dk, dv = torch.autograd.grad(o, (q, k, v), case["do"].to(dtype))
    return case, {"o": o.detach(), "dq": dq, "dk": dk, "dv": dv}


def wrong(name, kernel, dtype, factor):
    """The results outside of the stored bound of an f32 kernel, times a factor."""
    case, results = gradients(name, kernel, dtype)
    bad = []
    for tensor, found in results.items():
        error = (found.double() - case[f"expected/{tensor}"]).abs()
        if not bool((error <= factor * case[f"bound/f32/{tensor}"].double()).all()):
            bad.append((name, tensor, float(error.max())))
    return bad


def test_float32_is_within_the_bounds():
    assert [x for name in DENSE for x in wrong(name, dense, torch.float32, 1.0)] == []
    assert [x for name in SUS for x in wrong(name, sus, torch.float32, 1.0)] == []


def test_float64_is_within_the_bounds_of_its_roundoff():
    # 2^-29 is the ratio of the roundoffs; 2 is for the terms of higher order.
    assert [x for name in DENSE for x in wrong(name, dense, torch.float64, 2.0**-28)] == []
    assert [x for name in SUS for x in wrong(name, sus, torch.float64, 2.0**-28)] == []


def test_a_wrong_scale_is_outside():
    def no_scale(settings, q, k, v):
        return dense(settings | {"scale": 1.0}, q, k, v)

    assert wrong("primes", no_scale, torch.float64, 1.0)


def write_candidates(out):
    """For `sus-oracle check FIXTURE CANDIDATE --recipe f64`."""
    out.mkdir(parents=True, exist_ok=True)
    for names, kernel in ((DENSE, dense), (SUS, sus)):
        for name in names:
            _, results = gradients(name, kernel, torch.float64)
            save_file({n: x.contiguous() for n, x in results.items()}, out / f"{name}.safetensors")


if __name__ == "__main__":
    test_float32_is_within_the_bounds()
    test_float64_is_within_the_bounds_of_its_roundoff()
    test_a_wrong_scale_is_outside()
    write_candidates(Path(sys.argv[1]))
    print(f"PyTorch {torch.__version__}: {len(DENSE)} dense and {len(SUS)} SUS cases computed and written to {sys.argv[1]}")
