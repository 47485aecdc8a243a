"""SUS attention on a GPU beside the dense passes of PyTorch: cuDNN, FlashAttention 2 and Flex.

    python3 benches/gpu/sus_attention.py [--json FILE]

One run makes all figures: for each size and pattern the passes take turns, and a figure is the median of its times, in
milliseconds. Each problem has 2^20 rows, causal, in bfloat16: n = 65536 are 16 heads of 65536 queries.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable

import torch
import triton
from sus_oracle.triton import dense_forward, sampled_forward, sparse_backward
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

ROW_COUNT = 1 << 20


def waves(n: int, features: int, numbers: torch.Generator) -> torch.Tensor:
    """Positions as waves: q_i . k_j / sqrt(D) is the mean of 40 cos(w (i - j)) over random frequencies w."""
    w = 0.055 * torch.randn(features // 2, device="cuda", generator=numbers)
    angle = torch.arange(n, device="cuda")[:, None] * w
    return math.sqrt(40 * math.sqrt(features) * 2 / features) * torch.cat((angle.cos(), angle.sin()), 1)


def problem(pattern: str, n: int, features: int) -> list[torch.Tensor]:
    """q, k, v, g ``[1, 2^20 / n, n, features]``; of `random` the scores have the standard deviation 2."""
    numbers = torch.Generator(device="cuda").manual_seed(7)
    shape = (1, ROW_COUNT // n, n, features)
    q, k, v, g = (torch.randn(shape, device="cuda", generator=numbers) for _ in range(4))
    if pattern == "random":
        q *= 2
    else:
        q = k = waves(n, features, numbers).expand(shape)
    return [x.to(torch.bfloat16).contiguous() for x in (q, k, v, g)]


def milliseconds(run: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def measured(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The median of each run's times, the runs taking turns."""
    for run in runs.values():
        run()
    torch.cuda.synchronize()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            found[name].append(milliseconds(run))
    return {name: statistics.median(all_of) for name, all_of in found.items()}


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, name: str) -> dict[str, Callable[[], object]]:
    """The forward and the backward pass of one of PyTorch's kernels."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    if name == "flex":
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        # Each size is compiled for itself: after eight of them PyTorch would compile no more.
        torch.compiler.reset()
        masks = torch.compile(create_block_mask)
        mask = masks(lambda b, h, i, j: i >= j, None, None, q.shape[2], q.shape[2], device="cuda")
        compiled = torch.compile(flex_attention, dynamic=False)
        forward = lambda: compiled(*leaves, block_mask=mask)  # noqa: E731
    else:
        backend = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}[name]

        def forward() -> torch.Tensor:
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(*leaves, is_causal=True)

    o = forward()
    return {
        f"{name} forward": forward,
        f"{name} backward": lambda: torch.autograd.grad(o, leaves, g, retain_graph=True),
    }


def sampled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, c: float) -> dict[str, Callable[[], object]]:
    """The passes of SUS attention."""
    passed = sampled_forward(q, k, v, c=c, causal=True)
    return {
        "ours forward": lambda: dense_forward(q, k, v, causal=True),
        f"forward with mask, c = {c:g}": lambda: sampled_forward(q, k, v, c=c, causal=True),
        f"sparse backward, c = {c:g}": lambda: sparse_backward(q, k, v, *passed[:2], g, *passed[2:], c=c),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", default="4096,16384,65536,131072")
    parser.add_argument("--features", default="64,128")
    parser.add_argument("--pattern", default="random,local")
    parser.add_argument("--c", default="10,30,100")
    parser.add_argument("--peers", default="cudnn,flash,flex")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    versions = {"torch": torch.__version__, "triton": triton.__version__, "cudnn": torch.backends.cudnn.version()}
    versions["device"] = torch.cuda.get_device_name()
    print(versions)
    results = []
    for pattern in args.pattern.split(","):
        for features in map(int, args.features.split(",")):
            for n in map(int, args.n.split(",")):
                inputs = problem(pattern, n, features)
                runs: dict[str, Callable[[], object]] = {}
                for name in filter(None, args.peers.split(",")):
                    runs |= dense(*inputs, name)
                for c in map(float, args.c.split(",")):
                    runs |= sampled(*inputs, c)
                found = measured(runs, args.times)
                kept = {c: float(sampled_forward(*inputs[:3], c=float(c), causal=True)[3].float().mean()) for c in args.c.split(",")}
                results.append({"pattern": pattern, "features": features, "n": n, "ms": found, "kept": kept})
                print(f"{pattern}, D = {features}, n = {n}, kept {kept}")
                for what, time in found.items():
                    print(f"    {time:9.2f} ms  {what}", flush=True)
                if args.json:
                    with open(args.json, "w") as file:
                        json.dump({"versions": versions, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
