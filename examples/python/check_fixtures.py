#!/usr/bin/env python3
"""Reads a suite of fixtures, checks every hash, computes cases by the formulas, writes candidates.

    python3 check_fixtures.py FIXTURES OUT

Needs numpy and safetensors. Computes each case without bias, cap and sink (they would add lines, not ideas), dense or, without
packed sequences, SUS by the paper's rule with independent entries and layout coord4 or arrival: all masks, lists, lengths, dropout, slopes and
values in the keys. OUT gets one candidate a case:

    sus-oracle check FIXTURES/CASE.safetensors OUT/CASE.safetensors --recipe f64
"""

import hashlib
import json
import sys
from pathlib import Path

import arrival
import numpy as np
import philox
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

MUST_COMPUTE = {"primes", "causal_square", "packed", "sus_bernoulli_paper", "sus_heads"}
MUST_COMPUTE |= {"attn_mask", "block_mask", "indices", "packed_gaps", "dropout", "alibi", "alibi_batch", "v_of_k", "sus_masks", "sus_dropout"}
MUST_COMPUTE |= {"full_sus_arrival"}  # of the tier `full`


def settings_of(path):
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["sus_oracle"])


def check_hashes(folder, manifest):
    """Every file and every tensor, and no file too many."""
    listed = {case["file"] for case in manifest["cases"]} | {"manifest.json"}
    assert {path.name for path in folder.iterdir()} == listed, "a file is missing or extra"
    tensors = 0
    for case in manifest["cases"]:
        path = folder / case["file"]
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == case["sha256"], path
        arrays = load_file(path)
        assert sorted(arrays) == [tensor["name"] for tensor in case["tensors"]], path
        for tensor in case["tensors"]:
            array = arrays[tensor["name"]]
            assert list(array.shape) == tensor["shape"], (path, tensor)
            little = array.astype(array.dtype.newbyteorder("<")).tobytes()
            assert hashlib.sha256(little).hexdigest() == tensor["sha256"], (path, tensor)
            tensors += 1
    assert tensors > 0
    return tensors


def sequences(settings, x, b, queries, keys):
    """Ranges of queries and keys of each sequence of batch `b`, without padding: `q0, q1, k0, k1`."""
    if "cu_seqlens_q" not in x and "segments_q" not in settings:
        yield 0, x["lengths_q"][b] if "lengths_q" in x else queries, 0, x["lengths_k"][b] if "lengths_k" in x else keys
        return
    starts = [x["cu_seqlens_" + side] if "cu_seqlens_q" in x else settings["segments_" + side] for side in "qk"]
    used = [x.get("seqused_" + side, np.diff(cumulative)) for side, cumulative in zip("qk", starts)]
    for q0, k0, q_used, k_used in zip(*starts, *used):
        yield q0, q0 + q_used, k0, k0 + k_used


def visible(settings, x, heads, queries, keys):
    """Which keys a query sees, and `|i + Nk - Nq - j|`, both `[B, heads, queries, keys]`."""
    batch = x["q"].shape[0]
    seen, distance = np.zeros((batch, heads, queries, keys), bool), np.zeros((batch, heads, queries, keys))
    for b in range(batch):
        for q0, q1, k0, k1 in sequences(settings, x, b, queries, keys):
            i, j = np.arange(q1 - q0)[:, None], np.arange(k1 - k0)[None, :]
            below = i + (k1 - k0) - (q1 - q0)  # the diagonal at the bottom right
            diagonal = below if settings.get("alignment", "bottom-right") == "bottom-right" else i
            inside = np.ones((q1 - q0, k1 - k0), bool)
            if settings.get("causal", False):
                inside &= j <= diagonal
            if "window" in settings:
                left, right = settings["window"]
                inside &= (j >= diagonal - left) & (j <= diagonal + right)
            seen[b, :, q0:q1, k0:k1] = inside
            distance[b, :, q0:q1, k0:k1] = np.abs(below - j)
    if "attn_mask" in x:
        seen &= x["attn_mask"] != 0
    if "block_mask" in x:
        m, n = settings["block"]
        seen &= x["block_mask"].repeat(m, 2).repeat(n, 3)[:, :, :queries, :keys] != 0
    if "indices" in x:
        listed = (x["indices"][..., None] == np.arange(keys)).any(-2)
        seen &= listed.repeat(heads // listed.shape[1], 1)
    return seen, distance


def evaluate(settings, x):
    """`o, lse, dq, dk, dv` and, for SUS, the mask: sections 1 to 3 of the specification."""
    x = x if "v_of_k" not in settings else x | {"v": x["k"][..., : settings["v_of_k"]]}
    # In the padding stands NaN; nothing of it is seen.
    q, k, v, g = (np.nan_to_num(x[name].astype(np.float64)) for name in ("q", "k", "v", "do"))
    (batch, heads, queries, depth), (key_heads, keys) = q.shape, k.shape[1:3]
    group = heads // key_heads
    k_of, v_of = k.repeat(group, 1), v.repeat(group, 1)  # query head h reads key head h / group
    scale = settings.get("scale", 1 / np.sqrt(depth))
    seen, distance = visible(settings, x, heads, queries, keys)
    scores = scale * q @ k_of.swapaxes(2, 3)
    if "alibi_slopes" in x:
        scores = scores - x["alibi_slopes"].astype(np.float64).reshape(-1, heads, 1, 1) * distance
    scores = np.where(seen, scores, -np.inf)
    z = x["dropout_mask"].astype(bool) / (1 - settings["dropout_p"]) if "dropout_mask" in x else 1.0
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)  # a row that sees no key
    with np.errstate(divide="ignore"):
        lse = top + np.log(np.exp(scores - top).sum(-1, keepdims=True))
    w = np.exp(scores - np.where(np.isfinite(lse), lse, 0))
    o = (w * z) @ v_of
    delta = (g * o).sum(-1, keepdims=True)
    t = z * (g @ v_of.swapaxes(2, 3)) - delta
    if "dlse" in x:
        t = t + np.nan_to_num(x["dlse"].astype(np.float64))[..., None]
    out = {"o": o, "lse": lse[..., 0]}
    used = w
    if settings["pass"] == "sus":
        c = float(settings["c"])
        words = {"coord4": philox.words, "arrival": arrival.words}[settings["layout"]]
        x32 = words(settings["seed"], settings.get("stream", 0), batch, heads, queries, keys)
        cw = np.multiply(c, w, out=np.zeros_like(w), where=w > 0)
        kept = (w > 0) & ((cw >= 1) | (x32 < cw * 2.0**32))
        used = np.where(kept, np.maximum(w, 1 / c), 0)
        rows = kept.reshape(batch * heads * queries, keys)
        out["mask/row_offsets"] = np.concatenate([[0], np.cumsum(rows.sum(1))]).astype(np.int64)
        out["mask/columns"] = rows.nonzero()[1].astype(np.int32)
        out["mask/values"] = used.reshape(rows.shape)[rows]
    ds = used * t

    def per_key_head(array):  # sums over the query heads of a group
        return array.reshape(batch, key_heads, group, *array.shape[2:]).sum(2)

    out["dq"] = scale * ds @ k_of
    out["dk"] = scale * per_key_head(ds.swapaxes(2, 3) @ q)
    out["dv"] = per_key_head((used * z).swapaxes(2, 3) @ g)
    if "alibi_slopes" in x:
        by_head = -(ds * distance).sum((2, 3))
        out["dslopes"] = by_head if x["alibi_slopes"].ndim == 2 else by_head.sum(0)
    if "v_of_k" in settings:
        out["dkv"] = out.pop("dk")
        out["dkv"][..., : settings["v_of_k"]] += out.pop("dv")
    return out


def agrees(name, found, x):
    """Integers exactly; floats within the stored bound of an f32 kernel times 2^-29, the ratio of the roundoffs of f64 and
    f32, and times 2 for the terms of higher order. A case without bounds is left to `sus-oracle check`."""
    if name.startswith("mask/"):
        expected = x[name]
        if expected.dtype.kind == "i":
            return np.array_equal(found, expected)
        score = np.abs(x["expected/lse"][np.isfinite(x["expected/lse"])]).max(initial=1)
        return np.abs(found / expected - 1).max(initial=0) <= 64 * 2.0**-53 * (score + np.sqrt(found.size))
    expected, bound = x["expected/" + name], x.get("bound/f32/" + name)
    if bound is None:
        return found.shape == expected.shape
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite]):
        return False
    return bool(np.all(np.abs(found[finite] - expected[finite]) <= 2.0**-28 * bound[finite].astype(np.float64)))


def computable(settings, x):
    plain = "softcap" not in settings and not {"bias", "sink"} & x.keys()
    if settings["pass"] == "sus" and ("segments_q" in settings or "cu_seqlens_q" in x):
        return False  # the words of packed sequences
    paper = settings.get("rule") == "paper" and settings.get("sampler") == "bernoulli" and settings.get("layout") in ("coord4", "arrival")
    return plain and (settings["pass"] == "dense" or paper) and settings.get("c") != "inf"


def main(folder, out):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["spec"] == "sus-oracle-fixtures/1" and not manifest["blind"]
    tensors = check_hashes(folder, manifest)
    out.mkdir(parents=True, exist_ok=True)
    computed = set()
    for case in manifest["cases"]:
        path = folder / case["file"]
        settings, x = settings_of(path), load_file(path)
        if not computable(settings, x):
            continue
        result = evaluate(settings, x)
        wrong = [name for name, found in result.items() if not agrees(name, found, x)]
        assert not wrong, (case["name"], wrong)
        save_file({name: np.ascontiguousarray(array) for name, array in result.items()}, out / case["file"])
        computed.add(case["name"])
    must = MUST_COMPUTE & {case["name"] for case in manifest["cases"]}
    assert must and must <= computed, must - computed
    print(f"{len(manifest['cases'])} cases, {tensors} hashes, {len(computed)} computed and written to {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
