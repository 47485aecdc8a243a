"""Small results of the Triton kernels of SUS (`sus_oracle.triton`), stored beside those of `gpu_kernels.py`; it needs a GPU.

    python gpu_sus.py FOLDER
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED, STREAM = (5 << 40) + 3, 4
# Name: batch, query heads, key heads, queries, keys, features; causal; c; type.
PROBLEMS = {
    "sus_causal": ((1, 2, 1, 64, 64, 32), True, 6.0, torch.bfloat16),
    "sus_long": ((1, 1, 1, 16, 1060, 16), False, 8.0, torch.bfloat16),
}


def store(folder: Path, name: str, causal: bool, c: float, tensors: dict[str, torch.Tensor]) -> None:
    """Writes a problem and the candidate: inputs, settings, and the results with `lse` in base e."""
    settings = {"spec": "sus-oracle/1", "pass": "sus", "c": c, "seed": SEED, "stream": STREAM, "layout": "arrival", "causal": causal}
    inputs = {key: tensors[key] for key in ("q", "k", "v", "do")}
    save_file(inputs, folder / f"{name}.safetensors", {"sus_oracle": json.dumps(settings)})
    results = {key: tensors[key] for key in ("o", "lse", "dq", "dk", "dv")}
    save_file(results, folder / f"{name}__triton.safetensors")


def main() -> None:
    from sus_oracle.triton import sampled_forward, sparse_backward

    for name, (shape, causal, c, dtype) in PROBLEMS.items():
        batch, query_heads, key_heads, queries, keys, features = shape
        numbers = torch.Generator(device="cuda").manual_seed(9)
        sizes = [(query_heads, queries), (key_heads, keys), (key_heads, keys), (query_heads, queries)]
        drawn = [torch.randn((batch, *size, features), generator=numbers, device="cuda") for size in sizes]
        drawn[0] *= 2
        q, k, v, g = (x.to(dtype) for x in drawn)
        o, lse, kept, counts = sampled_forward(q, k, v, c=c, causal=causal, seed=SEED, stream=STREAM)
        dq, dk, dv = sparse_backward(q, k, v, o, lse, g, kept, counts, c=c)
        tensors = {"q": q, "k": k, "v": v, "do": g, "o": o, "lse": lse * math.log(2), "dq": dq, "dk": dk, "dv": dv}
        store(Path(sys.argv[1]), name, causal, c, {key: x.contiguous().cpu() for key, x in tensors.items()})


if __name__ == "__main__":
    main()
