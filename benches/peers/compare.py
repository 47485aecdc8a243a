#!/usr/bin/env python3
"""Forward and dense backward of `sus-oracle bench` beside PyTorch on the same processor, in one run, at equal threads.

    python3 benches/peers/compare.py target/release/sus-oracle --shape 1,1,4096,64 2,16,512,64 --threads 2 [--causal] [--instructions avx2]

A shape is BATCH,HEADS,N,FEATURES. Peers: `scaled_dot_product_attention` (its flash kernel for the CPU) and, where its n x n
matrices fit, softmax attention written out, both differentiated by autograd. Rounds alternate between us and them; the best
round of each counts. A round of PyTorch in which the processor time is not close to threads x wall time shared its processors
with something else: it is discarded, and with no round left the entry is empty. A line for each type has the rates of
multiply-adds that both reach: a peer that is held to AVX2 and shows the rate of AVX-512 is not held.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time

# Before PyTorch and its libraries read them.
if "avx2" in sys.argv:
    os.environ.update(ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2", ONEDNN_MAX_CPU_ISA="AVX2")

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.attention import SDPBackend, sdpa_kernel

# Numbers of a matrix of scores above which it is not written out.
NAIVE_LIMIT = 4096**2
# The share of threads x wall that a round has to have got. Kernels do not keep every thread busy to the end.
SHARE = 0.75


def measured(function, threads, repetitions):
    """Wall seconds of the best undisturbed repetition, or None."""
    best = None
    for _ in range(repetitions):
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if cpu >= SHARE * threads * wall and (best is None or wall < best):
            best = wall
    return best


def naive(q, k, v, is_causal):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(-1) @ v


def flash(q, k, v, is_causal):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return scaled_dot_product_attention(q, k, v, is_causal=is_causal)


def peer(attention, shape, dtype, causal, threads, repetitions):
    """Seconds of the forward and of the backward pass."""
    torch.manual_seed(0)
    q, k, v, g = (torch.randn(*shape, dtype=dtype) for _ in range(4))
    q *= 2
    inputs = [x.requires_grad_() for x in (q, k, v)]

    def forward():
        with torch.no_grad():
            attention(*inputs, causal)

    forward()
    forward_seconds = measured(forward, threads, repetitions)
    o = attention(*inputs, causal)
    backward = lambda: torch.autograd.grad(o, inputs, g, retain_graph=True)
    backward()
    return forward_seconds, measured(backward, threads, repetitions)


def ours(arguments, shape, dtype):
    """Seconds of each pass, and the report."""
    options = ["--dtype", dtype, "--threads", str(arguments.threads), "--instructions", arguments.instructions, "--json"]
    options += [word for name, size in zip(("batch", "heads", "n", "features"), shape) for word in (f"--{name}", str(size))]
    options += ["--causal"] if arguments.causal else []
    out = subprocess.run([arguments.command, "bench", *options], check=True, capture_output=True, text=True)
    report = json.loads(out.stdout)
    return {row["op"]: row["seconds"] for row in report["rows"]}, report


def product_rate(dtype):
    """Operations per second of PyTorch's product of matrices of 1024 x 1024, two per multiply-add."""
    a, b = (torch.randn(1024, 1024, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    best = math.inf
    for _ in range(20):
        begin = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2 * 1024**3 / best


def least(a, b):
    found = [x for x in (a, b) if x is not None]
    return min(found) if found else None


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command")
    parser.add_argument("--shape", nargs="+", default=["1,1,4096,64"], metavar="B,H,N,D")
    parser.add_argument("--dtype", default="f64,f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--instructions", default="native", choices=["native", "avx2"])
    parser.add_argument("--json", help="a file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    head = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "torch": torch.__version__,
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": arguments.threads,
        "causal": arguments.causal,
    }
    print(", ".join(f"{name} {value}" for name, value in head.items()))
    print(f"{'dtype':<6}{'shape':<16}{'pass':<16}{'ours':>10}{'SDPA':>10}{'ratio':>7}{'naive':>10}{'ratio':>7}")
    rows, rates = [], {}
    for name in arguments.dtype.split(","):
        dtype = {"f64": torch.float64, "f32": torch.float32}[name]
        for shape in ([int(size) for size in text.split(",")] for text in arguments.shape):
            batch, heads, n, _ = shape
            ours_best, peers = {}, {"SDPA": [None, None], "naive": [None, None]}
            for _ in range(arguments.rounds):
                seconds_of, report = ours(arguments, shape, name)
                rates[name] = report["ceilings"]["multiply_add_flops_per_second"][name]
                head["instructions"] = report["rows"][0]["instructions"]
                for op, seconds in seconds_of.items():
                    ours_best[op] = least(ours_best.get(op), seconds)
                for label, attention in (("SDPA", flash), ("naive", naive)):
                    if label == "naive" and batch * heads * n * n > NAIVE_LIMIT:
                        continue
                    repetitions = 5 if batch * heads * n * n <= 8192**2 else 2
                    found = peer(attention, shape, dtype, arguments.causal, arguments.threads, repetitions)
                    peers[label] = [least(a, b) for a, b in zip(peers[label], found)]
            for at, op in enumerate(("forward", "dense_backward")):
                line = f"{name:<6}{','.join(map(str, shape)):<16}{op:<16}{ours_best[op]:>10.4f}"
                row = {"dtype": name, "shape": shape, "op": op, "ours": ours_best[op]}
                for label in ("SDPA", "naive"):
                    seconds = row[label] = peers[label][at]
                    line += f"{'-':>10}{'-':>7}" if seconds is None else f"{seconds:>10.4f}{seconds / ours_best[op]:>7.2f}"
                print(line, flush=True)
                rows.append(row)
        print(f"{name}: multiply-adds {rates[name] / 1e9:.0f} Gflop/s with {head['instructions']}, "
              f"PyTorch's product {product_rate(dtype) / 1e9:.0f} Gflop/s", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({**head, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
