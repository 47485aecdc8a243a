"""Facts from PyTorch: small attention problems with results by float64 automatic differentiation.

    python make_torch_cases.py            writes cases/*.safetensors
    python make_torch_cases.py --check    compares what is there with a new computation, writes nothing

Every result is compared with the independent 60-digit implementation in ../independent; the run fails when
they differ by more than 1e-13 of the tensor's norm (plus what float64 may lose where terms cancel).
Where scores are so large that float64 itself is not good to that (`huge`), the 60-digit results are stored;
the metadata of a file does not say so, the list in README.md does.
"""

import math
import random
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "independent"))
import sus_files  # noqa: E402
import sus_reference  # noqa: E402

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

BASE = {"B": 2, "Hq": 6, "Hk": 2, "Nq": 5, "Nk": 7, "D": 3, "E": 4}
SMALL = {"B": 1, "Hq": 2, "Hk": 1}
PACKED = {"segments_q": [0, 3, 3, 7, 9], "segments_k": [0, 4, 6, 6, 11]}
EVERYTHING = {"scale": 0.4375, "softcap": 1.75, "causal": True, "window": [3, 2], "segments_q": [0, 4, 9], "segments_k": [0, 5, 11]}

# name: (sizes that differ from BASE, optional tensors, options).  "bias" maps to the axes that are not broadcast.
CASES = {
    "plain": ({}, {}, {}),
    "square_causal": ({"Nq": 7, "Hk": 6}, {}, {"causal": True}),
    "causal_bottom_right_more_keys": ({}, {}, {"causal": True}),
    "causal_bottom_right_more_queries": ({"Nq": 7, "Nk": 5}, {"dlse"}, {"causal": True}),  # two empty rows
    "causal_top_left_more_keys": ({}, {}, {"causal": True, "alignment": "top-left"}),
    "causal_top_left_more_queries": ({"Nq": 7, "Nk": 5}, {}, {"causal": True, "alignment": "top-left"}),
    "window_bottom_right": ({}, {}, {"window": [2, 1]}),
    "window_top_left": ({"Nq": 11}, {}, {"window": [2, 1], "alignment": "top-left"}),  # empty rows at the end
    "window_causal": ({"Nq": 7, "Nk": 11}, {}, {"window": [3, 2], "causal": True}),
    "window_causal_top_left": ({"Nq": 7, "Nk": 5}, {}, {"window": [1, 3], "causal": True, "alignment": "top-left"}),
    "window_zero": ({}, {}, {"window": [0, 0]}),
    "softcap": ({}, {}, {"softcap": 0.75}),
    "bias_keys": ({}, {"bias": ""}, {}),
    "bias_batch_rows": ({}, {"bias": "BN"}, {"softcap": 1.5}),
    "bias_heads_rows": ({}, {"bias": "HN"}, {"causal": True}),
    "bias_batch_heads": ({}, {"bias": "BH"}, {}),
    "bias_full": ({}, {"bias": "BHN"}, {"causal": True}),
    "sink": ({}, {"sink"}, {}),
    "sink_empty_rows": ({"Nq": 7, "Nk": 5}, {"sink", "dlse"}, {"causal": True}),
    "dlse": ({}, {"dlse"}, {}),
    "dlse_alone": ({}, {"dlse", "zero do"}, {"softcap": 2.5}),
    "packed": ({"B": 1, "Nq": 9, "Nk": 11}, {"sink"}, PACKED),
    "packed_causal": ({"B": 2, "Nq": 9, "Nk": 11}, {"dlse"}, PACKED | {"causal": True}),
    "packed_causal_top_left": ({"B": 1, "Nq": 9, "Nk": 11}, {}, PACKED | {"causal": True, "alignment": "top-left"}),
    "packed_window": ({"B": 1, "Nq": 9, "Nk": 11}, {}, PACKED | {"window": [1, 0]}),
    "mqa": ({"Hk": 1, "B": 1}, {}, {"causal": True}),
    "wide_values": ({"D": 2, "E": 5}, {}, {}),
    "narrow_values": ({"D": 5, "E": 1}, {}, {}),
    "scale": ({}, {}, {"scale": 1.25}),
    "scale_negative": ({}, {}, {"scale": -0.375, "softcap": 1.0}),
    "one_key": ({"Nk": 1}, {"dlse"}, {}),
    "one_key_sink": ({"Nk": 1, "Nq": 3}, {"sink": 1, "bias": "HN"}, {}),
    "one_query": ({"Nq": 1}, {}, {"causal": True}),
    "everything": ({"Nq": 9, "Nk": 11}, {"bias": "BHN", "sink": 1, "dlse": 1}, EVERYTHING),
    "deep_negative": (SMALL, {"bias": "N", "bias shift": -300}, {}),
    "large": (SMALL, {"q factor": 32}, {"scale": 1.0}),  # |s| up to a few hundred
    "attn_mask": ({}, {"attn_mask", "sink"}, {"causal": True}),
    "block_mask": ({"Nq": 7, "Nk": 9}, {"block_mask"}, {"block": [2, 4]}),
    "indices": ({"Nk": 9}, {"indices", "dlse"}, {}),
    "lengths": ({"Nq": 6, "Nk": 8}, {"lengths": 1, "bias": "H", "sink": 1, "dlse": 1}, {"causal": True}),
    "packed_gaps": ({"B": 1, "Nq": 9, "Nk": 11}, {"gaps", "alibi_slopes"}, {"causal": True}),
    "dropout": ({}, {"dropout_mask", "sink"}, {"dropout_p": 0.25, "causal": True}),
    "alibi_batch": ({}, {"alibi_slopes": "BH", "dlse": 1}, {"softcap": 2.0, "alignment": "top-left", "causal": True}),
    "v_of_k": ({"E": 2, "Hk": 1}, {"dlse"}, {"v_of_k": 2}),
    "bias_first": ({}, {"bias": "HN"}, {"bias_first": True, "softcap": 1.5}),
    "all_operands": ({"Nq": 8, "Nk": 9, "D": 5},
        {"attn_mask": 1, "block_mask": 1, "indices": 1, "lengths": 1, "dropout_mask": 1, "alibi_slopes": "H", "bias": "BHN", "sink": 1, "dlse": 1},
        {"block": [3, 2], "dropout_p": 0.5, "v_of_k": 4, "bias_first": True, "softcap": 2.0, "causal": True}),
    "huge": (SMALL, {"pair factor": 1024}, {"scale": 1.0}),  # |s| up to 10^4, keys in pairs that differ little
}  # fmt: skip
STORED_AT_60_DIGITS = {"huge"}


def inputs(name, sizes, extras):
    """Multiples of 1/32 in [-7, 7], so exact in bf16 and in f16; drawn by Python's own generator."""
    z = BASE | sizes
    extras = extras if isinstance(extras, dict) else dict.fromkeys(extras, 1)
    draw = random.Random("sus-oracle torch case " + name)

    def tensor(*shape, factor=1):
        values = [max(-7.0, min(7.0, round(32 * draw.gauss(0, 1)) / 32)) for _ in range(math.prod(shape))]
        return np.array(values).reshape(shape) * factor

    x = {"q": tensor(z["B"], z["Hq"], z["Nq"], z["D"], factor=extras.get("q factor", 1))}
    x["k"] = tensor(z["B"], z["Hk"], z["Nk"], z["D"],)
    if "pair factor" in extras:  # all but the last coordinate large, and shared by keys 0 and 1, 2 and 3, ...
        x["k"][..., :-1] *= extras["pair factor"]
        x["k"][:, :, 1::2, :-1] = x["k"][:, :, :-1:2, :-1]
    x["v"] = tensor(z["B"], z["Hk"], z["Nk"], z["E"])
    x["do"] = tensor(z["B"], z["Hq"], z["Nq"], z["E"], factor=0 if "zero do" in extras else 1) + 0.0
    if "dlse" in extras:
        x["dlse"] = tensor(z["B"], z["Hq"], z["Nq"])
    if "bias" in extras:
        own = extras["bias"]
        x["bias"] = tensor(z["B"] if "B" in own else 1, z["Hq"] if "H" in own else 1, z["Nq"] if "N" in own else 1, z["Nk"])
        x["bias"] += extras.get("bias shift", 0)
        if "bias shift" in extras:  # keep eight significant bits
            x["bias"] = np.round(x["bias"] / 2) * 2
    if "sink" in extras:
        x["sink"] = tensor(z["Hq"])
    if "alibi_slopes" in extras:
        x["alibi_slopes"] = abs(tensor(*[z["B"]] * (extras["alibi_slopes"] == "BH"), z["Hq"])) / 8
    return x | structure(draw, z, extras)


def structure(draw, z, extras):
    """Masks, lists and lengths, as integers; the masks of heads and of queries differ."""

    def flags(*shape, share):
        return np.array([draw.random() < share for _ in range(math.prod(shape))], np.uint8).reshape(shape)

    x = {}
    if "attn_mask" in extras:
        x["attn_mask"] = flags(z["B"], 1, z["Nq"], z["Nk"], share=0.75)
    if "block_mask" in extras:
        m, n = extras["block"]
        x["block_mask"] = flags(1, z["Hq"], -(-z["Nq"] // m), -(-z["Nk"] // n), share=0.7)
    if "indices" in extras:  # six of the keys in no order, and two places without a key
        lists = [draw.sample(range(z["Nk"]), 6) + [-1, -5] for _ in range(z["Hk"] * z["Nq"])]
        x["indices"] = np.array(lists, np.int32).reshape(1, z["Hk"], z["Nq"], 8)
    if "dropout_mask" in extras:
        x["dropout_mask"] = flags(1, z["Hq"], z["Nq"], z["Nk"], share=0.75)
    if "lengths" in extras:
        x["lengths_q"] = np.array([z["Nq"] - 1 - b for b in range(z["B"])], np.int32)
        x["lengths_k"] = np.array([z["Nk"] - 3 * b for b in range(z["B"])], np.int32)
    if "gaps" in extras:
        x |= {"cu_seqlens_q": np.array([0, 4, 4, 8], np.int32), "cu_seqlens_k": np.array([0, 5, 7, 10], np.int32)}
        x["seqused_k"] = np.array([4, 2, 3], np.int32)
    return x


def mask_mod(x, options, b, h, i, j):
    """Whether query i of head h of sequence b sees key j, and `|i + Nk - Nq - j|`, written out as a `mask_mod` and a `score_mod` of
    FlexAttention would be."""
    n_q, n_k, hk = x["q"].shape[2], x["k"].shape[2], h * x["k"].shape[1] // x["q"].shape[1]
    first_q, first_k = 0, 0
    if "cu_seqlens_q" in x:
        starts_q, starts_k = x["cu_seqlens_q"], x["cu_seqlens_k"]
        inside = [s for s in range(len(starts_q) - 1) if starts_q[s] <= i < starts_q[s + 1]]
        if not inside:
            return False, 0
        first_q, first_k = int(starts_q[inside[0]]), int(starts_k[inside[0]])
        n_q, n_k = int(starts_q[inside[0] + 1]) - first_q, int(x["seqused_k"][inside[0]])
    if "lengths_q" in x:
        n_q, n_k = int(x["lengths_q"][b]), int(x["lengths_k"][b])
    i_of, j_of = i - first_q, j - first_k
    far = i_of + n_k - n_q - j_of
    seen = 0 <= i_of < n_q and 0 <= j_of < n_k
    diagonal = i_of if options.get("alignment") == "top-left" else i_of + n_k - n_q
    seen = seen and not (options.get("causal", False) and j_of > diagonal)
    if "attn_mask" in x:
        seen = seen and bool(x["attn_mask"][b, 0, i, j])
    if "block_mask" in x:
        seen = seen and bool(x["block_mask"][0, h, i // options["block"][0], j // options["block"][1]])
    if "indices" in x:
        seen = seen and j in x["indices"][0, hk, i].tolist()
    return seen, abs(far)


STRUCTURE = {"attn_mask", "block_mask", "indices", "dropout_mask", "lengths_q", "lengths_k", "cu_seqlens_q", "cu_seqlens_k", "seqused_k"}


def visible(options, n_q, n_k):
    """[n_q, n_k] booleans, from index arithmetic on whole tensors."""
    seg_q = torch.tensor(options.get("segments_q", [0, n_q]))
    seg_k = torch.tensor(options.get("segments_k", [0, n_k]))
    at_q, at_k = torch.arange(n_q), torch.arange(n_k)
    of_q, of_k = (torch.bucketize(at, seg, right=True) - 1 for at, seg in ((at_q, seg_q), (at_k, seg_k)))
    distance = (at_k - seg_k[of_k])[None, :] - (at_q - seg_q[of_q])[:, None]  # j - i in the segment
    if options.get("alignment", "bottom-right") == "bottom-right":
        distance = distance - (seg_k.diff() - seg_q.diff())[of_q][:, None]
    seen = of_q[:, None] == of_k[None, :]
    if options.get("causal", False):
        seen &= distance <= 0
    if "window" in options:
        left, right = options["window"]
        seen &= (distance >= -left) & (distance <= right)
    return seen


def attention(x, options):
    """o, lse of the plain definition: scale, softcap, bias, mask, softmax with the sink in its denominator."""
    group = x["q"].shape[1] // x["k"].shape[1]
    values = x["v"] if "v" in x else x["k"][..., : options["v_of_k"]]
    k, v = (tensor.repeat_interleave(group, dim=1) for tensor in (x["k"], values))
    s = x["q"] @ k.transpose(-1, -2) * options.get("scale", 1 / math.sqrt(x["q"].shape[-1]))
    if options.get("bias_first", False):
        s = s + x["bias"]
    if "softcap" in options:
        s = options["softcap"] * torch.tanh(s / options["softcap"])
    if "bias" in x and not options.get("bias_first", False):
        s = s + x["bias"]
    padded = torch.zeros(s.shape[:3] + (1,), dtype=torch.bool)
    if STRUCTURE & set(x) or "alibi_slopes" in x:
        all_of = [[[[mask_mod(x, options, b, h, i, j) for j in range(s.shape[3])] for i in range(s.shape[2])] for h in range(s.shape[1])] for b in range(s.shape[0])]
        seen, far = torch.tensor(all_of, dtype=torch.float64).unbind(-1)
        seen = seen.bool()
        if "alibi_slopes" in x:
            s = s - x["alibi_slopes"].reshape(-1, s.shape[1], 1, 1) * far
        if "lengths_q" in x:
            padded = padded | (torch.arange(s.shape[2]) >= x["lengths_q"][:, None])[:, None, :, None]
    else:
        seen = visible(options, s.shape[2], s.shape[3]).expand(s.shape)
    top = s.detach().masked_fill(~seen, -1e300).amax(-1, keepdim=True)
    if "sink" in x:
        sink = x["sink"][None, :, None, None]
        top = torch.maximum(top, sink.detach())
    p = torch.where(seen, torch.exp(torch.where(seen, s - top, 0.0)), 0.0)
    total = p.sum(-1, keepdim=True)
    if "sink" in x:
        total = total + torch.where(padded, 0.0, torch.exp(sink - top))
    empty = total == 0
    total = torch.where(empty, 1.0, total)
    lse = torch.where(empty, -torch.inf, top + torch.log(total)).squeeze(-1)
    w = p / total
    if "dropout_mask" in x:
        w = w * (x["dropout_mask"] != 0) / (1 - options["dropout_p"])
    return w @ v, lse


def autograd(x, options):
    """Every result by float64 automatic differentiation of <o, do> + <lse, dlse> over the rows with keys."""
    x = {n: torch.tensor(a, requires_grad=n not in {"do", "dlse"} | STRUCTURE) for n, a in x.items()}
    o, lse = attention(x, options)
    loss = (o * x["do"]).sum()
    if "dlse" in x:
        finite = torch.isfinite(lse)
        loss = loss + (torch.where(finite, lse, 0.0) * x["dlse"])[finite].sum()
    leaves = [n for n in ("q", "k", "v", "bias", "sink", "alibi_slopes") if n in x]
    names = {"alibi_slopes": "dslopes"} | ({"k": "dkv"} if "v_of_k" in options else {})
    found = torch.autograd.grad(loss, [x[n] for n in leaves], allow_unused=False)
    out = {"o": o.detach(), "lse": lse.detach()} | {names.get(n, "d" + n): g for n, g in zip(leaves, found)}
    return {n: t.numpy() for n, t in out.items()}


def disagreement(mine, theirs, noise):
    """The worst over the tensors of |difference| / (1e-13 |reference| + 1e-15 |noise|), in Frobenius norms."""
    worst = 0.0
    for name, reference in theirs.items():
        reference = reference.astype(float)
        infinite = np.isinf(reference)
        assert np.array_equal(infinite, np.isinf(mine[name])), name
        error = np.linalg.norm(np.where(infinite, 0, mine[name] - np.where(infinite, 0, reference)))
        allowed = 1e-13 * np.linalg.norm(np.where(infinite, 0, reference)) + 1e-15 * np.linalg.norm(noise[name])
        worst = max(worst, error / allowed if error > 0 else 0.0)
    return worst


def main():
    check, worst, size = "--check" in sys.argv, 0.0, 0
    (HERE / "cases").mkdir(exist_ok=True)
    for name, (sizes, extras, options) in CASES.items():
        x = inputs(name, sizes, extras if "block" not in options else dict.fromkeys(extras, 1) | dict(extras if isinstance(extras, dict) else {}) | {"block": options["block"]})
        if "v_of_k" in options:
            del x["v"]
        theirs, noise = sus_reference.gradients(options, x)
        found = autograd(x, options)
        if name in STORED_AT_60_DIGITS:
            found = {n: a.astype(np.float64) for n, a in theirs.items()}
        else:
            ratio = disagreement(found, theirs, noise)
            worst = max(worst, ratio)
            if not ratio <= 1:
                sys.exit(f"{name}: autograd and the 60-digit reference differ, {ratio:.3g} of what is allowed")
        dtypes = {"uint8": "U8", "int32": "I32"}
        tensors = {n: (dtypes.get(str(a.dtype), "F32"), a) for n, a in x.items()} | {"expected/" + n: ("F64", a) for n, a in found.items()}
        path = HERE / "cases" / f"{name}.safetensors"
        if check:
            _, stored, _ = sus_files.read(path)
            assert set(stored) == set(tensors), name
            assert all(np.array_equal(stored[n], a) for n, a in x.items()), name
            assert disagreement({n: stored["expected/" + n] for n in theirs}, theirs, noise) <= 1, name
        else:
            sus_files.write(path, tensors, {"spec": "sus-oracle/1", "pass": "dense"} | options)
        size += path.stat().st_size
    print(f"{len(CASES)} cases, {size} bytes, torch {torch.__version__}, worst disagreement {worst:.3g} of the allowed")


if __name__ == "__main__":
    main()
