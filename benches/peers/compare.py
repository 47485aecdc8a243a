#!/usr/bin/env python3
"""Forward and dense backward of `sus-oracle bench` beside PyTorch on the same processor, in one run, at equal threads.

    python3 benches/peers/compare.py target/release/sus-oracle --n 1024,4096 --threads 2 [--causal] [--dtype f64,f32]

One head, D = E = 64. Peers: `scaled_dot_product_attention` (its flash kernel for the CPU) and, where its n x n matrices fit,
softmax attention written out, both differentiated by autograd. Rounds alternate between us and them; the best round of each
counts. A round of PyTorch in which the processor time is not close to threads x wall time shared its processors with
something else: it is discarded, and with no round left the entry is empty.
"""

import argparse
import json
import math
import subprocess
import time

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.attention import SDPBackend, sdpa_kernel

NAIVE_LIMIT = 4096
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


def peer(attention, n, dtype, causal, threads, repetitions):
    """Seconds of the forward and of the backward pass."""
    torch.manual_seed(0)
    q, k, v, g = (torch.randn(1, 1, n, 64, dtype=dtype) for _ in range(4))
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


def ours(command, n, dtype, causal, threads):
    options = ["--n", str(n), "--dtype", dtype, "--threads", str(threads), "--json"]
    options += ["--causal"] if causal else []
    out = subprocess.run([command, "bench", *options], check=True, capture_output=True, text=True)
    return {row["op"]: row["seconds"] for row in json.loads(out.stdout)["rows"]}


def least(a, b):
    found = [x for x in (a, b) if x is not None]
    return min(found) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command")
    parser.add_argument("--n", default="1024,4096")
    parser.add_argument("--dtype", default="f64,f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--causal", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, causal: {arguments.causal}")
    print(f"{'dtype':<6}{'n':>7} {'pass':<16}{'ours':>10}{'SDPA':>10}{'ratio':>7}{'naive':>10}{'ratio':>7}")
    for name in arguments.dtype.split(","):
        dtype = {"f64": torch.float64, "f32": torch.float32}[name]
        for n in map(int, arguments.n.split(",")):
            ours_best, peers = {}, {"SDPA": [None, None], "naive": [None, None]}
            for _ in range(arguments.rounds):
                for op, seconds in ours(arguments.command, n, name, arguments.causal, arguments.threads).items():
                    ours_best[op] = least(ours_best.get(op), seconds)
                for label, attention in (("SDPA", flash), ("naive", naive)):
                    if label == "naive" and n > NAIVE_LIMIT:
                        continue
                    repetitions = 5 if n <= 8192 else 2
                    found = peer(attention, n, dtype, arguments.causal, arguments.threads, repetitions)
                    peers[label] = [least(a, b) for a, b in zip(peers[label], found)]
            for at, op in enumerate(("forward", "dense_backward")):
                line = f"{name:<6}{n:>7} {op:<16}{ours_best[op]:>10.4f}"
                for label in ("SDPA", "naive"):
                    seconds = peers[label][at]
                    line += f"{'-':>10}{'-':>7}" if seconds is None else f"{seconds:>10.4f}{seconds / ours_best[op]:>7.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
