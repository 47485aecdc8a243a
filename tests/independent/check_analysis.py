"""`sus-oracle analyze --json` against plain numpy, on small problems of every feature.

    python check_analysis.py SUS_ORACLE [--cases 60] [--seed 0]

Shares no code with the crate: dense weights from the definition, keep probabilities by bisection, and the systematic
law by trying a uniform in the middle of every piece. Agreement to 1e-10 of each total.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import sus_files
from sus_reference import DEFAULTS, segments, visible

BUDGETS = [0.5, 1.0, 2.5, 6.0]
TOLERANCE = 1e-10


def rows_of(options, x):
    """For every row: W, t, f of the visible keys, and the rows' operands."""
    options = DEFAULTS | options
    q, k, v, do = (x[n] for n in ("q", "k", "v", "do"))
    (batch, heads, n_q, depth), (key_heads, n_k) = q.shape, k.shape[1:3]
    scale = depth**-0.5 if options["scale"] is None else options["scale"]
    cap = options["softcap"]
    for b in range(batch):
        for h in range(heads):
            hk = h // (heads // key_heads)
            for _, q0, q1, k0, k1 in segments(options, n_q, n_k):
                for i in range(q0, q1):
                    js = [k0 + j for j in visible(options, i - q0, q1 - q0, k1 - k0)]
                    if "bias" in x:
                        hidden = np.isneginf(x["bias"])
                        js = [j for j in js if not hidden[b % hidden.shape[0], h % hidden.shape[1], i % hidden.shape[2], j]]
                    z = scale * k[b, hk, js] @ q[b, h, i]
                    s = z if cap is None else cap * np.tanh(z / cap)
                    slope = scale * (np.ones(len(js)) if cap is None else 1 - np.tanh(z / cap) ** 2)
                    if "bias" in x:
                        bias = x["bias"]
                        s = s + bias[b % bias.shape[0], h % bias.shape[1], i % bias.shape[2], js]
                    e = np.exp(s)
                    w = e / (e.sum() + (np.exp(x["sink"][h]) if "sink" in x else 0)) if js else e
                    g = do[b, h, i]
                    dp = v[b, hk, js] @ g
                    t = dp - w @ dp + (x["dlse"][b, h, i] if "dlse" in x else 0)
                    yield b, h, hk, i, js, w, t, t * slope


def multiplier(rule, c, w):
    if rule == "paper" or c >= len(w):
        return c if rule == "paper" else np.inf
    low, high = 0.0, 1e6
    while np.minimum(1, high * w).sum() < c:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * w).sum() < c else (low, middle)
    return low


def covariance_trace(sampler, q, kept, w, vectors):
    """Trace of the covariance of sum_n W~_n vectors[n]."""
    if sampler == "bernoulli":
        return (q * (1 - q) * kept**2 * (vectors**2).sum(1)).sum()
    loose = (q > 0) & (q < 1)
    ends = np.cumsum(q[loose])
    starts = np.concatenate([[0], ends[:-1]])
    cuts = np.unique(np.concatenate([[0, 1], ends % 1]))
    total = 0.0
    for a, b in zip(cuts, cuts[1:]):
        u = (a + b) / 2
        m = np.floor(ends - u) > np.floor(starts - u)
        x = ((m * kept[loose] - w[loose])[:, None] * vectors[loose]).sum(0)
        total += (b - a) * (x**2).sum()
    return total


def analysis(options, x):
    rows = list(rows_of(options, x))
    q, k, do = x["q"], x["k"], x["do"]
    batch = q.shape[0]
    dense = {n: np.zeros(x[n[1:]].shape) for n in ("dq", "dk", "dv")}
    for b, h, hk, i, js, w, t, f in rows:
        dense["dq"][b, h, i] += (w * f) @ k[b, hk, js]
        dense["dk"][b, hk, js] += np.outer(w * f, q[b, h, i])
        dense["dv"][b, hk, js] += np.outer(w, do[b, h, i])
    squared = {n: (g**2).sum() for n, g in dense.items()}
    between = {n: ((g - g.mean(0)) ** 2).sum() / (batch - 1) for n, g in dense.items()} if batch > 1 else None
    out = []
    for sampler in ("bernoulli", "systematic"):
        for rule in ("paper", "calibrated"):
            for c in BUDGETS:
                nnz, variance = [], dict.fromkeys(("dq", "dk", "dv", "dbias"), 0.0)
                for b, h, hk, i, js, w, t, f in rows:
                    lam = multiplier(rule, c, w)
                    p = np.where(w > 0, np.minimum(1, lam * w), 0) if len(js) else w
                    kept = np.maximum(w, 1 / lam)
                    r = p * (1 - p) * kept**2
                    nnz.append(p.sum())
                    variance["dq"] += covariance_trace(sampler, p, kept, w, f[:, None] * k[b, hk, js])
                    variance["dk"] += (r * f**2).sum() * (q[b, h, i] ** 2).sum()
                    variance["dv"] += r.sum() * (do[b, h, i] ** 2).sum()
                    variance["dbias"] += (r * t**2).sum()
                out.append((c, rule, sampler, sum(nnz) / max(1, sum(len(r[4]) for r in rows)), nnz, variance))
    return squared, between, out


def compare(report, expected, batch, has_bias):
    squared, between, laws = expected
    rows = {(r["c"], r["rule"], r["sampler"]): r for r in report["rows"]}
    assert len(rows) == len(laws) == len(report["rows"])
    worst = 0.0

    def close(what, a, b, size=0.0):
        nonlocal worst
        error = abs(a - b) / max(abs(b), size, 1e-300)
        worst = max(worst, 0.0 if a == b else error)
        assert a == b or error < TOLERANCE, f"{what}: {a!r}, expected {b!r}"

    for c, rule, sampler, fraction, nnz, variance in laws:
        row, name = rows[c, rule, sampler], f"c = {c}, {rule}, {sampler}"
        close(f"{name}: kept_fraction", row["kept_fraction"], fraction)
        close(f"{name}: nnz mean", row["expected_nnz"]["mean"], np.mean(nnz) if nnz else 0.0)
        close(f"{name}: nnz max", row["expected_nnz"]["max"], max(nnz, default=0.0))
        for gradient in ("dq", "dk", "dv") + (("dbias",) if has_bias else ()):
            # Where t cancels to zero numpy leaves 1e-32.
            size = 1e-15
            close(f"{name}: variance of {gradient}", row["mask_variance"][gradient], variance[gradient], size)
            if gradient != "dbias":
                close(f"{name}: norm of {gradient}", row["squared_norm"][gradient], squared[gradient], size)
        if batch < 2:
            assert row["relative_increase"] is None
            continue
        for gradient in ("dq", "dk", "dv"):
            if between[gradient] > 1e-12:
                increase = variance[gradient] / batch / between[gradient]
                close(f"{name}: increase of {gradient}", row["relative_increase"][gradient], increase, 1e-12)
    return worst


def case(rng):
    batch, key_heads, group = rng.integers(1, 4), rng.integers(1, 3), rng.integers(1, 4)
    n_q, n_k, d, e = rng.integers(1, 9), rng.integers(1, 13), rng.integers(1, 6), rng.integers(1, 6)
    heads = key_heads * group
    draw = lambda *shape: rng.standard_normal(shape) * rng.choice([0.5, 1.0, 2.0])
    x = {"q": draw(batch, heads, n_q, d), "k": draw(batch, key_heads, n_k, d)}
    x |= {"v": draw(batch, key_heads, n_k, e), "do": draw(batch, heads, n_q, e)}
    options = {"causal": bool(rng.integers(2)), "alignment": str(rng.choice(["bottom-right", "top-left"]))}
    if rng.integers(2):
        options["softcap"] = 1.5
    if rng.integers(2):
        options["scale"] = 0.75
    if rng.integers(2):
        options["window"] = [int(rng.integers(0, 5)), int(rng.integers(0, 5))]
    if rng.integers(3) == 0:
        options["segments_q"] = sorted([0, int(rng.integers(0, n_q + 1)), int(n_q)])
        options["segments_k"] = sorted([0, int(rng.integers(0, n_k + 1)), int(n_k)])
    if rng.integers(2):
        x["bias"] = draw(*(int(rng.choice([1, n])) for n in (batch, heads, n_q)), n_k)
        if rng.integers(2):
            x["bias"] = np.where(rng.random(x["bias"].shape) < 0.4, -np.inf, x["bias"])
    if rng.integers(2):
        x["sink"] = draw(heads)
    if rng.integers(2):
        x["dlse"] = draw(batch, heads, n_q)
    return options, x


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("oracle")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    worst = 0.0
    for n in range(given.cases):
        options, x = case(np.random.default_rng([given.seed, n]))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "problem.safetensors")
            sus_files.write(path, {name: ("F64", array) for name, array in x.items()}, options)
            command = [given.oracle, "analyze", path, "--json", "--c", ",".join(map(str, BUDGETS))]
            run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if run.returncode:
            sys.exit(f"case {n}: exit {run.returncode}: {run.stderr}")
        try:
            worst = max(worst, compare(json.loads(run.stdout), analysis(options, x), x["q"].shape[0], "bias" in x))
        except AssertionError as error:
            sys.exit(f"case {n} of seed {given.seed}: {error}\n{options} { {k: a.shape for k, a in x.items()} }")
    print(f"{given.cases} problems, largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
