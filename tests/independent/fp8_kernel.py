"""Kernels of 8 bits in numpy, from SPEC section 11, judged by the command: right ones pass, wrong ones fail.

    python fp8_kernel.py target/release/sus-oracle [--cases 8] [--seed 0]

No code is shared with the crate. Rounding to E4M3 and E5M2 is that of `ml_dtypes`, after saturation. Needs numpy and ml_dtypes.
"""

import argparse
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

F = np.float32
E4M3, E5M2, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16
LARGEST = {E4M3: 448.0, E5M2: 57344.0}
NAMES = {np.dtype(E4M3): "F8_E4M3", np.dtype(E5M2): "F8_E5M2", np.dtype(BF16): "BF16", np.dtype(F): "F32"}


def write(path, tensors, metadata=None):
    header, body = {}, b""
    if metadata is not None:
        header["__metadata__"] = {"sus_oracle": json.dumps(metadata)}
    for name, x in tensors.items():
        data = np.ascontiguousarray(x).tobytes()
        header[name] = {"dtype": NAMES[x.dtype], "shape": list(x.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def quantise(x, dtype, scale):
    """Codes over the scale, in f32."""
    y = (x * F(scale)).astype(F)
    code = np.clip(y, -LARGEST[dtype], LARGEST[dtype]).astype(dtype).astype(F)
    return (code / F(scale)).astype(F)


def draw(rng, shape, by, dtype=E4M3, peak=1.0):
    """Codes and scales of normal numbers; the largest of each block is stored as the largest number."""
    x = (rng.standard_normal(shape) * peak).astype(F)
    b, h, n, _ = shape
    blocks = x.reshape({"tensor": (1, -1), "head": (b, h, -1), "rows": (b, h, 4, -1)}[by])
    scales = (np.abs(blocks).max(-1) / F(LARGEST[dtype])).astype(F)
    per_row = np.broadcast_to({"tensor": lambda s: s.reshape(1, 1, 1), "head": lambda s: s[..., None],
                               "rows": lambda s: np.repeat(s, n // 4, -1)}[by](scales), (b, h, n))[..., None]
    return (x / per_row).astype(dtype), scales, per_row.astype(F)


def expand(x, heads):
    return np.repeat(x, heads // x.shape[1], 1)


def kernel(p, wrong=None, tile=None, reverse=False):
    """One kernel: `q, k, v, do` as pairs of codes and scales by rows; `wrong` names what it does wrong."""
    is_ = lambda name: wrong == name
    codes = {name: p[name][0].astype(F) for name in ("q", "k", "v", "do")}
    x = {name: (codes[name] * p[name][2]).astype(F) for name in codes}
    heads, key_heads = x["q"].shape[1], x["k"].shape[1]
    k, v = expand(x["k"], heads), expand(x["v"], heads)
    q, g = x["q"], x["do"]
    k_raw, v_raw = expand(codes["k"], heads), expand(codes["v"], heads)
    n, m, d = q.shape[2], k.shape[2], q.shape[3]
    scale = F(1 / math.sqrt(d))
    s = (q @ (k_raw if is_("k not descaled") else k).swapaxes(-1, -2) * scale).astype(F)
    if p["causal"]:
        s = np.where(np.arange(m) <= np.arange(n)[:, None] + m - n, s, F(-np.inf))
    p_scale, ds_scale = F(p["p_scale"]), F(p["ds_scale"])
    p_type = E5M2 if is_("P in e5m2") else E4M3
    used_p_scale = p_scale * F(0.8) if is_("stale p_scale") else p_scale
    round_p = lambda w: w if is_("P not rounded") else quantise(w, p_type, used_p_scale)
    if tile is None:
        top = s.max(-1, keepdims=True)
        e = np.exp((s - top).astype(F)).astype(F)
        total = e.sum(-1, keepdims=True, dtype=F)
        o = (round_p((e / total).astype(F)) @ v).astype(F)
        lse = (top + np.log(total)).astype(F)
    else:
        top = np.full(s.shape[:-1] + (1,), F(-np.inf))
        total, o = np.zeros_like(top), np.zeros(s.shape[:-1] + (v.shape[-1],), F)
        starts = range(0, m, tile)
        for at in reversed(starts) if reverse else starts:
            keys = slice(at, min(at + tile, m))
            new = np.maximum(top, s[..., keys].max(-1, keepdims=True))
            safe = np.where(np.isinf(new), F(0), new)
            e = np.exp((s[..., keys] - safe).astype(F)).astype(F)
            factor = np.exp((top - safe).astype(F)).astype(F)
            total = (total * factor + e.sum(-1, keepdims=True, dtype=F)).astype(F)
            o = (o * factor + round_p(e) @ v[..., keys, :]).astype(F)
            top = new
        o, lse = (o / total).astype(F), (top + np.log(total)).astype(F)
    if is_("p_scale not undone"):
        o = o * p_scale
    stored = o.astype(BF16)
    w = np.exp((s - lse).astype(F)).astype(F)
    dp = (g @ v.swapaxes(-1, -2)).astype(F)
    if is_("dP in bf16"):
        dp = dp.astype(BF16).astype(F)
    delta = (g * (o if is_("delta of unrounded o") else stored.astype(F))).sum(-1, keepdims=True, dtype=F)
    if is_("delta missing"):
        delta = np.zeros_like(delta)
    code = round_p(w)
    ds = ((code if is_("rounded P in dS") else w) * (dp - delta)).astype(F)
    ds_type = E4M3 if is_("dS in e4m3") else E5M2
    if is_("dS rounded before its scale"):
        ds = quantise(ds, ds_type, F(1))
    elif not is_("dS not rounded"):
        ds = quantise(ds, ds_type, ds_scale)
    if is_("ds_scale not undone"):
        ds = ds * ds_scale
    dq = (ds @ (k_raw if is_("k_scale missing from dq") else k)).astype(F)
    dk = (ds.swapaxes(-1, -2) @ q).astype(F)
    dv = (code.swapaxes(-1, -2) @ (g * p["do"][2] if is_("do_scale twice") else g)).astype(F)
    group = lambda x: x.reshape(x.shape[0], key_heads, -1, *x.shape[2:]).sum(2, dtype=F)
    dq, dk, dv = dq * scale, group(dk) * (F(1) if is_("scale missing from dk") else scale), group(dv)
    return {"o": stored, "lse": lse[..., 0], "dq": dq.astype(BF16), "dk": dk.astype(BF16), "dv": dv.astype(BF16)}


WRONG = ["k not descaled", "P in e5m2", "stale p_scale", "P not rounded", "p_scale not undone", "dP in bf16", "delta of unrounded o",
         "delta missing", "rounded P in dS", "dS in e4m3", "dS rounded before its scale", "dS not rounded", "ds_scale not undone",
         "k_scale missing from dq", "do_scale twice", "scale missing from dk"]
RIGHT = [dict(), dict(tile=64), dict(tile=32, reverse=True), dict(tile=128), dict(tile=16)]


def problem(rng, case):
    b, h, hk = [(1, 2, 2), (2, 4, 2), (1, 3, 1)][case % 3]
    n, m = [(64, 64), (128, 128), (96, 160), (256, 256)][case % 4]
    d, e = [(64, 64), (128, 64)][case % 2]
    by = ["tensor", "head", "rows"][case // 2 % 3]
    peak = [1.0, 3.0][case // 3 % 2]
    do_type = [E4M3, E5M2][case // 4 % 2]
    made = {"q": draw(rng, (b, h, n, d), by, peak=peak), "k": draw(rng, (b, hk, m, d), by), "v": draw(rng, (b, hk, m, e), by),
            "do": draw(rng, (b, h, n, e), by, do_type), "causal": bool(case % 2)}
    made["p_scale"] = [448.0, 256.0, 100.0][case % 3]
    made["ds_scale"] = float(F([64.0, 1000.0, 37.5][case % 3]))
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-o", action="store_true")
    arguments = parser.parse_args()
    rng, bad, killed = np.random.default_rng(arguments.seed), 0, {name: 0 for name in WRONG}
    with tempfile.TemporaryDirectory() as folder:
        case_file, candidate = Path(folder, "case.safetensors"), Path(folder, "candidate.safetensors")

        def judge(result):
            if arguments.without_o:
                result = {name: x for name, x in result.items() if name != "o"}
            write(candidate, result)
            run = subprocess.run([arguments.command, "check", case_file, candidate, "--recipe", "flash-fp8"], capture_output=True, text=True)
            return run.returncode, run.stdout + run.stderr

        for case in range(arguments.cases):
            p = problem(rng, case)
            tensors = {name: p[name][0] for name in ("q", "k", "v", "do")}
            tensors |= {f"{name}_scale": p[name][1].reshape(-1) if p[name][1].size == 1 else p[name][1] for name in ("q", "k", "v", "do")}
            write(case_file, tensors, {"p_scale": p["p_scale"], "ds_scale": p["ds_scale"], "causal": p["causal"]})
            for right in RIGHT:
                code, said = judge(kernel(p, **right))
                if code != 0:
                    bad += 1
                    print(f"case {case}: a right kernel ({right}) exits with {code}\n{said}")
            for name in WRONG:
                code, said = judge(kernel(p, name))
                killed[name] += code == 1
                if code != 1:
                    print(f"case {case}: '{name}' exits with {code}")
    print(f"{arguments.cases} cases: {bad} right kernels did not pass; killed", killed)
    sys.exit(1 if bad or not all(killed.values()) else 0)


if __name__ == "__main__":
    main()
