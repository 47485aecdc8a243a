"""Attention's backward pass, dense and SUS, from the definition, at 60 digits.

An independent second implementation: it shares no code with the crate, runs one weight at a time in
plain loops, and is meant to be read beside the paper and sections 1 to 5 of the specification.

    python sus_reference.py grad PROBLEM.safetensors [options] --out OUT.safetensors
"""

import argparse
import sys

import numpy as np
from mpmath import mp, mpf

import sus_files
from sus_uniforms import SECOND, TWO32, keep, word

mp.dps = 60

DEFAULTS = {
    "spec": "sus-oracle/1", "pass": "dense", "scale": None, "softcap": None, "causal": False,
    "alignment": "bottom-right", "window": None, "segments_q": None, "segments_k": None, "c": None,
    "rule": "paper", "sampler": "bernoulli", "seed": 0, "stream": 0, "layout": "coord4", "uniform_bits": 32,
    "block": None, "dropout_p": None, "v_of_k": None, "bias_first": False, "padding": "zero", "gradients": None,
}  # fmt: skip

exact = np.frompyfunc(mpf, 1, 1)


def dot(a, b):
    return mp.fdot(zip(a, b))


def zeros(shape):
    return exact(np.zeros(shape))


# ---------------------------------------------------------------- masks


def segments(options, x, b, n_q, n_k):
    """(index, first query, last + 1, first key, last + 1) of every packed sequence of batch b, padding left out."""
    if "cu_seqlens_q" in x:
        q, k = ([int(n) for n in x[name]] for name in ("cu_seqlens_q", "cu_seqlens_k"))
    elif options["segments_q"] is not None:
        q, k = options["segments_q"], options["segments_k"]
    else:
        used = [int(x[name][b]) if name in x else n for name, n in (("lengths_q", n_q), ("lengths_k", n_k))]
        return [(0, 0, used[0], 0, used[1])]
    ends = []
    for cumulative, name in ((q, "seqused_q"), (k, "seqused_k")):
        used = x.get(name)
        starts = cumulative[:-1]
        ends.append([int(s + used[n]) if used is not None else cumulative[n + 1] for n, s in enumerate(starts)])
    return [(s, q[s], ends[0][s], k[s], ends[1][s]) for s in range(len(q) - 1)]


def allowed(options, x, b, h, i, j, key_head):
    """Whether the masks by elements, by blocks and by lists let a query see a key."""

    def at(name, *rest):
        array = x[name]
        head = key_head if array.shape[1] not in (1, x["q"].shape[1]) else h
        return array[(b % array.shape[0], head % array.shape[1], *rest)]

    if "attn_mask" in x and not at("attn_mask", i % x["attn_mask"].shape[2], j):
        return False
    if "block_mask" in x and not at("block_mask", i // options["block"][0], j // options["block"][1]):
        return False
    return "indices" not in x or j in at("indices", i)


def visible(options, i, n_q, n_k):
    """The keys that query i sees; i and the keys count from the start of the segment."""
    diagonal = i + (n_k - n_q if options["alignment"] == "bottom-right" else 0)
    keys = range(n_k)
    if options["causal"]:
        keys = [j for j in keys if j <= diagonal]
    if options["window"] is not None:
        left, right = options["window"]
        keys = [j for j in keys if diagonal - left <= j <= diagonal + right]
    return list(keys)


# ---------------------------------------------------------------- SUS: rule and samplers


def multiplier(rule, c, weights):
    """The `lambda` of a row: q = min(1, lambda W).  Infinite where everything is kept."""
    if rule == "paper" or c == mp.inf:
        return c
    # A weight that float64 cannot hold counts as zero.
    alive = sorted((w for w in weights if float(w) > 0), reverse=True)
    if c >= len(alive):
        return mp.inf
    # Let the `ones` greatest weights have q = 1; the others share what is left of the budget.
    for ones in range(len(alive)):
        scale = (c - ones) / mp.fsum(alive[ones:])
        if scale * alive[ones] <= 1:
            return scale
    raise AssertionError("the budget is below the number of keys, so some weight has q < 1")


def probability(lam, w):
    if float(w) == 0:
        return mpf(0)
    return mpf(1) if lam == mp.inf else min(mpf(1), lam * w)


def systematic(q, u):
    """Which entries of a row are kept: an integer lies in (C_{j-1} - u, C_j - u]."""
    kept, total = [], mpf(0)
    for p in q:
        if p >= 1:
            kept.append(True)
            continue
        before, total = total, total + p
        kept.append(mp.floor(total - u) > mp.floor(before - u))
    return kept


def sample(options, weights, keys, word_at):
    """For a row: the upweighted W~ of every visible key, None where it is dropped."""
    c = mpf(options["c"])
    lam = multiplier(options["rule"], c, weights)
    q = [probability(lam, w) for w in weights]
    stream = options["stream"]
    if options["sampler"] == "systematic":
        u = mpf(word_at(0, stream | SECOND)) / TWO32
        kept = systematic(q, u)
    else:
        kept = []
        for p, j in zip(q, keys):
            second = (lambda j=j: word_at(j, stream | SECOND)) if options["uniform_bits"] == 64 else None
            kept.append(p > 0 and keep(p, word_at(j, stream), second))
    least = mpf(0) if lam == mp.inf else 1 / lam
    return [max(w, least) if k else None for w, k in zip(weights, kept)]


# ---------------------------------------------------------------- forward and backward


def gradients(options, x):
    """All outputs as object arrays of extended-precision numbers, plus the mask for `pass: sus`.

    `noise` holds, for every gradient, the sum of the absolute values of the very terms it sums, each times
    (1 + |score|): what a relative rounding of one unit in every operation can do, for a scale of errors.
    """
    options = DEFAULTS | options
    x = dict(x)
    if options["v_of_k"] is not None:
        x["v"] = x["k"][..., : options["v_of_k"]]
    q, k, v, do = (exact(x[n]) for n in ("q", "k", "v", "do"))
    dlse, bias, sink, slopes = (exact(x[n]) if n in x else None for n in ("dlse", "bias", "sink", "alibi_slopes"))
    (batch, heads, n_q, depth), (key_heads, n_k), e = q.shape, k.shape[1:3], v.shape[3]
    scale = 1 / mp.sqrt(depth) if options["scale"] is None else mpf(options["scale"])
    cap = None if options["softcap"] is None else mpf(options["softcap"])
    batches = [segments(options, x, b, n_q, n_k) for b in range(batch)]
    bias_first = options["bias_first"] and cap is not None and bias is not None

    out = {"o": zeros((batch, heads, n_q, e)), "lse": zeros((batch, heads, n_q))}
    out |= {"dq": zeros(q.shape), "dk": zeros(k.shape), "dv": zeros(v.shape)}
    out |= {} if bias is None else {"dbias": zeros(bias.shape)}
    out |= {} if sink is None else {"dsink": zeros(sink.shape)}
    out |= {} if slopes is None else {"dslopes": zeros(slopes.shape)}
    out["lse"][...] = -mp.inf
    noise = {name: np.zeros(array.shape) for name, array in out.items()}
    mask = {}

    def add(name, index, value, size):
        out[name][index] += value
        noise[name][index] += np.asarray(size, float)

    tasks = ((b, h, s) for b in range(batch) for h in range(heads) for s in batches[b])
    for b, h, (segment, q0, q1, k0, k1) in tasks:
        parts = batches[b]
        hk = h // (heads // key_heads)
        for i in range(q0, q1):
            def bias_at(j):
                return (b % bias.shape[0], h % bias.shape[1], i % bias.shape[2], j)

            keys = visible(options, i - q0, q1 - q0, k1 - k0)  # in the segment
            if bias is not None:
                keys = [j for j in keys if bias[bias_at(k0 + j)] != -mp.inf]
            keys = [j for j in keys if allowed(options, x, b, h, i, k0 + j, hk)]
            columns = [k0 + j for j in keys]  # in the tensor
            z = [scale * dot(q[b, h, i], k[b, hk, j]) for j in columns]
            if bias_first:
                z = [y + bias[bias_at(j)] for y, j in zip(z, columns)]
            capped = z if cap is None else [cap * mp.tanh(y / cap) for y in z]
            score = capped
            if bias is not None and not bias_first:
                score = [s + bias[bias_at(j)] for s, j in zip(score, columns)]
            far = [abs((i - q0) + (k1 - k0) - (q1 - q0) - j) for j in keys]
            slope_at = None if slopes is None else ((h,) if slopes.ndim == 1 else (b, h))
            if slopes is not None:
                score = [s - slopes[slope_at] * n for s, n in zip(score, far)]
            z_of = [mpf(1)] * len(keys)
            if "dropout_mask" in x:
                kept_by = x["dropout_mask"]
                place = (b % kept_by.shape[0], h % kept_by.shape[1], i)
                z_of = [mpf(int(kept_by[(*place, j)] != 0)) / (1 - mpf(options["dropout_p"])) for j in columns]
            logits = score + ([] if sink is None else [sink[h]])
            if not logits:
                out["lse"][b, h, i] = -mp.inf
                mask[b, h, i] = []
                continue
            top = max(logits)
            lse = top + mp.log(mp.fsum(mp.exp(s - top) for s in logits))
            weights = [mp.exp(s - lse) for s in score]
            o = sum((w * d * v[b, hk, j] for w, d, j in zip(weights, z_of, columns)), zeros(e))
            out["lse"][b, h, i], out["o"][b, h, i] = lse, o
            size = 1 + max(abs(float(s)) for s in logits)
            noise["lse"][b, h, i] = size
            noise["o"][b, h, i] = size * np.asarray(sum((w * d * abs(v[b, hk, j]) for w, d, j in zip(weights, z_of, columns)), zeros(e)), float)

            delta = dot(do[b, h, i], o)
            extra = mpf(0) if dlse is None else dlse[b, h, i]
            delta_size = dot(abs(do[b, h, i]), noise["o"][b, h, i]) + size * abs(extra)
            if sink is not None:
                w_sink = mp.exp(sink[h] - lse)
                add("dsink", h, -w_sink * (delta - extra), w_sink * delta_size)

            kept = weights
            if options["pass"] == "sus":

                def word_at(j, stream):
                    place = (b * len(parts) + segment, h, i - q0, j, heads, n_q, n_k)
                    return word(options["layout"], options["seed"], stream, *place)

                kept = sample(options, weights, keys, word_at)
                mask[b, h, i] = [(j, w) for j, w in zip(columns, kept) if w is not None]

            for n, j in enumerate(columns):
                w = kept[n]
                if w is None:
                    continue
                t = z_of[n] * dot(do[b, h, i], v[b, hk, j]) - delta + extra
                ds = w * t
                dz = ds if cap is None else ds * (1 - (capped[n] / cap) ** 2)
                ds_size = w * (size * z_of[n] * dot(abs(do[b, h, i]), abs(v[b, hk, j])) + delta_size)
                add("dq", (b, h, i), scale * dz * k[b, hk, j], abs(scale) * ds_size * abs(k[b, hk, j]))
                add("dk", (b, hk, j), scale * dz * q[b, h, i], abs(scale) * ds_size * abs(q[b, h, i]))
                wz = w * z_of[n]
                add("dv", (b, hk, j), wz * do[b, h, i], size * wz * abs(do[b, h, i]))
                if bias is not None:
                    add("dbias", bias_at(j), dz if bias_first else ds, ds_size)
                if slopes is not None:
                    add("dslopes", slope_at, -ds * far[n], ds_size * far[n])

    if options["pass"] == "sus":
        rows = [mask.get((b, h, i), []) for b in range(batch) for h in range(heads) for i in range(n_q)]
        out |= csr(rows)
    if options["v_of_k"] is not None:
        for tensors in (out, noise):
            tensors["dkv"] = tensors.pop("dk")
            tensors["dkv"][..., :e] += tensors.pop("dv")
    return out, noise


def csr(rows):
    """Rows of (column, W~) in compressed form."""
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    columns = np.array([j for row in rows for j, _ in row], np.int32)
    values = np.array([w for row in rows for _, w in row], object)
    return {"mask/row_offsets": offsets, "mask/columns": columns, "mask/values": values}


def rounded(out):
    """The outputs as (dtype, array), floats rounded once to float64."""
    names = {"int64": "I64", "int32": "I32", "object": "F64"}
    return {n: (names[str(a.dtype)], a.astype(np.float64) if a.dtype == object else a) for n, a in out.items()}


def options_from_command(arguments):
    """Options of a problem given on the command line, under their metadata names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["grad"])
    parser.add_argument("problem")
    parser.add_argument("--out", required=True)
    parser.add_argument("--dtype")
    parser.add_argument("--dense", action="store_const", const="dense", dest="pass")
    parser.add_argument("--causal", action="store_const", const=True)
    for name, kind in {"scale": float, "softcap": float, "alignment": str, "rule": str, "sampler": str, "c": str,
                       "layout": str, "seed": int, "stream": int, "uniform-bits": int}.items():  # fmt: skip
        parser.add_argument("--" + name, type=kind)
    for name in ("window", "segments-q", "segments-k"):
        parser.add_argument("--" + name, type=lambda text: [int(part) for part in text.split(",")])
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    if "c" in given:
        given["pass"] = "sus"
        given["c"] = given["c"] if given["c"] == "inf" else float(given["c"])
    return given


def main(arguments):
    given = options_from_command(arguments)
    metadata, tensors, _ = sus_files.read(given["problem"])
    out, _ = gradients(metadata | given, tensors)
    sus_files.write(given["out"], rounded(out))


if __name__ == "__main__":
    main(sys.argv[1:])
