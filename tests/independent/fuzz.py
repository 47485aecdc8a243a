"""Random small problems, answered by the command and by the independent reference, and compared.

    python fuzz.py SUS_ORACLE [--cases 300] [--seed 0] [--keep FOLDER]

Prints one line per disagreement (and keeps that problem and the command's answer in FOLDER), then a summary.
Exits with 1 if anything disagreed.  Case n of seed s is the same problem whatever the other cases are.

Tolerances: per tensor, |difference| <= 1e-12 |reference| + 1e-14 |noise| in Frobenius norms, where `noise` has the
absolute values of the very terms summed (so a gradient that is zero by cancellation may be float64's zero);
masks have the same pattern exactly and values to 1e-13, relative, times the size of the scores where that is over 10.
"""

import argparse
import collections
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import sus_files
import sus_reference
from sus_uniforms import SECOND, TWO32, word

LAYOUTS = ["coord4", "linear4", "linear1", "jax-threefry", "arrival"]
ON_THE_COMMAND_LINE = ["c", "rule", "sampler", "seed", "stream", "layout", "uniform_bits",
                       "causal", "alignment", "scale", "softcap", "window", "segments_q", "segments_k"]  # fmt: skip


def tensor(draw, shape, spread=1.0):
    count = int(np.prod(shape))
    return np.array([draw.gauss(0, spread) for _ in range(count)], float).reshape(shape)


def cuts(draw, total, parts):
    """Cumulative lengths of `parts` sequences; some may be empty."""
    return [0, *sorted(draw.randint(0, total) for _ in range(parts - 1)), total]


def seed_of(draw):
    return draw.choice([0, 42, draw.randrange(1 << 32), draw.randrange(1 << 64), (1 << 64) - 1])


def random_options(draw, z):
    """Metadata of a problem, each key present or absent."""
    options = {}
    for key, chance, values in (
        ("scale", 0.4, lambda: draw.choice([1.0, 0.125, draw.uniform(0.05, 1.5), -draw.uniform(0.05, 1.5), 0.0])),
        ("softcap", 0.3, lambda: draw.choice([0.5, 30.0, draw.uniform(0.1, 5)])),
        ("causal", 0.6, lambda: draw.random() < 0.8),
        ("alignment", 0.5, lambda: draw.choice(["bottom-right", "top-left"])),
        ("window", 0.3, lambda: draw.choice([[0, 0], [0, 2], [2, 0], [draw.randint(0, 9), draw.randint(0, 9)], [100, 100]])),
    ):
        if draw.random() < chance:
            options[key] = values()
    if draw.random() < 0.3:
        parts = draw.randint(1, 4)
        options |= {"segments_q": cuts(draw, z["Nq"], parts), "segments_k": cuts(draw, z["Nk"], parts)}
    if draw.random() < 0.25:
        return options | {"pass": "dense"}
    options["pass"] = "sus"
    options["c"] = draw.choice([0.3, 1, 1.0, 2, 2.5, draw.uniform(0.05, 8), 1e-3, 30, 1e9, "inf"])
    for key, chance, values in (
        ("rule", 0.7, lambda: draw.choice(["paper", "calibrated"])),
        ("sampler", 0.7, lambda: draw.choice(["bernoulli", "systematic"])),
        ("layout", 0.8, lambda: draw.choice(LAYOUTS)),
        ("seed", 0.8, lambda: seed_of(draw)),
        ("stream", 0.5, lambda: draw.choice([0, 1, 7, (1 << 31) - 1])),
        ("uniform_bits", 0.3, lambda: draw.choice([32, 64])),
    ):
        if draw.random() < chance:
            options[key] = values()
    if options.get("sampler") == "systematic" or options.get("layout") == "arrival":
        options.pop("uniform_bits", None)
    return options


def random_case(draw):
    """(metadata, {name: (dtype, array)}) of a problem over every feature."""
    z = {n: draw.choice(sizes) for n, sizes in {
        "B": [1, 1, 2, 3], "Hk": [1, 1, 2], "group": [1, 2, 3], "Nq": [1, 2, 3, 5, 7, 9], "Nk": [1, 2, 4, 5, 6, 7, 9, 11],
        "D": [1, 2, 3, 5], "E": [1, 2, 4]}.items()}  # fmt: skip
    if draw.random() < 0.1:
        z[draw.choice(["B", "Nq", "Nk"])] = 0
    heads = z["Hk"] * z["group"]
    spread = draw.choice([0.3, 1.0, 1.0, 2.0, 10.0])
    x = {"q": tensor(draw, (z["B"], heads, z["Nq"], z["D"]), spread)}
    x["k"] = tensor(draw, (z["B"], z["Hk"], z["Nk"], z["D"]))
    x["v"] = tensor(draw, (z["B"], z["Hk"], z["Nk"], z["E"]))
    x["do"] = tensor(draw, (z["B"], heads, z["Nq"], z["E"]), draw.choice([0, 1, 1, 1, 1e-3]))
    if draw.random() < 0.35:
        x["dlse"] = tensor(draw, (z["B"], heads, z["Nq"]))
    if draw.random() < 0.35:
        x["bias"] = tensor(draw, [draw.choice([n, 1]) for n in (z["B"], heads, z["Nq"])] + [z["Nk"]])
        x["bias"] += draw.choice([0, 0, 0, -40.0, 25.0])
        hidden = draw.choice([0, 0, 0.3, 0.8])
        x["bias"] = np.where([draw.random() < hidden for _ in x["bias"].flat], -np.inf, x["bias"].flat).reshape(x["bias"].shape)
    if draw.random() < 0.35:
        x["sink"] = tensor(draw, (heads,), 2)
    dtypes = draw.choice([["F64"], ["F32"], ["F16"], ["BF16"], ["F16", "BF16", "F32", "F64"]])
    options = random_options(draw, z)
    typed = {n: (draw.choice(dtypes), a) for n, a in x.items()}
    if draw.random() < 0.6:
        more_operands(draw, z, options, typed)
    return options, typed


def flags(draw, shape, share):
    return np.array([draw.random() < share for _ in range(int(np.prod(shape)))], bool).reshape(shape) * draw.choice([1, 1, 7])


def more_operands(draw, z, options, typed):
    """Adds masks, lists, lengths, dropout and the rest, each present or absent."""
    batch, heads, n_q, n_k = z["B"], z["Hk"] * z["group"], z["Nq"], z["Nk"]
    lead = [draw.choice([n, 1]) for n in (batch, heads)]
    byte = draw.choice(["U8", "BOOL"])
    if draw.random() < 0.3:
        shape = [*lead, draw.choice([n_q, 1]), n_k]
        typed["attn_mask"] = (byte, flags(draw, shape, draw.choice([0.2, 0.6, 0.9])).astype(np.uint8))
    if draw.random() < 0.3:
        block = [draw.randint(1, 4), draw.randint(1, 4)]
        shape = [*lead, -(-n_q // block[0]), -(-n_k // block[1])]
        typed["block_mask"] = (byte, flags(draw, shape, draw.choice([0.3, 0.7])).astype(np.uint8))
        options["block"] = block
    if draw.random() < 0.3:
        count, head = draw.randint(0, max(n_k, 1)), draw.choice([1, heads, z["Hk"]])
        shape = (lead[0], head, n_q, count)
        lists = [draw.sample([*range(n_k), *range(-count, 0)], count) for _ in range(lead[0] * head * n_q)]
        typed["indices"] = (draw.choice(["I32", "I64"]), np.array(lists, np.int64).reshape(shape))
    if draw.random() < 0.3:
        typed["dropout_mask"] = (byte, flags(draw, [*lead, n_q, n_k], 0.7).astype(np.uint8))
        options["dropout_p"] = draw.choice([0.0, 0.1, 0.5, draw.uniform(0, 0.95)])
    if draw.random() < 0.3:
        shape = draw.choice([(heads,), (batch, heads)])
        typed["alibi_slopes"] = ("F32", tensor(draw, shape, 0.5))
    if draw.random() < 0.3:
        options["bias_first"] = True
    if draw.random() < 0.25:
        options["v_of_k"] = draw.randint(1, z["D"])
        del typed["v"]
        typed["do"] = (typed["do"][0], tensor(draw, (batch, heads, n_q, options["v_of_k"])))
    padding(draw, z, options, typed)


def padding(draw, z, options, typed):
    """Lengths or packed sequences with gaps, and NaN where nothing may be read."""
    kind = draw.choice(["none", "lengths", "packed"])
    if kind == "none" or (kind == "lengths" and "segments_q" in options):
        return
    sides = [("q", z["Nq"], ["q", "do", "dlse"]), ("k", z["Nk"], ["k", "v"])]
    if kind == "packed":
        options.pop("segments_q", None), options.pop("segments_k", None)
        parts = draw.randint(1, 3)
    for side, n, names in sides:
        if kind == "packed":
            cumulative = cuts(draw, n, parts)
            cumulative[-1] -= draw.choice([0, 0, min(1, cumulative[-1] - cumulative[-2])])
            used = [draw.randint(0, b - a) for a, b in zip(cumulative, cumulative[1:])]
            typed[f"cu_seqlens_{side}"] = ("I32", np.array(cumulative, np.int64))
            if draw.random() < 0.5:
                typed[f"seqused_{side}"] = ("I32", np.array(used, np.int64))
            else:
                used = [b - a for a, b in zip(cumulative, cumulative[1:])]
            read = {p for s, count in zip(cumulative, used) for p in range(s, s + count)}
            unread = [[p for p in range(n) if p not in read]] * z["B"]
        else:
            if draw.random() < 0.2:
                continue
            lengths = [draw.randint(0, n) for _ in range(z["B"])]
            typed[f"lengths_{side}"] = ("I32", np.array(lengths, np.int64))
            unread = [range(length, n) for length in lengths]
        for name in names:
            if name in typed:
                for b, positions in enumerate(unread):
                    typed[name][1][b, :, list(positions)] = draw.choice([np.nan, np.inf, 1.0])




def tie_case(draw):
    """One key, so W = 1 and q = c exactly: c stands at, or a hair beside, the boundary of one row's decision."""
    batch, heads, n_q = 2, 2, 3
    options = {"pass": "sus", "layout": draw.choice(LAYOUTS), "seed": seed_of(draw), "stream": draw.choice([0, 5])}
    options["sampler"] = draw.choice(["bernoulli", "bernoulli", "systematic"])
    b, h, i = draw.randrange(batch), draw.randrange(heads), draw.randrange(n_q)
    place = (options["layout"], options["seed"]), (b, h, i, 0, heads, n_q, 1)
    first, second = (word(*place[0], options["stream"] | bit, *place[1]) for bit in (0, SECOND))
    if options["sampler"] == "systematic":
        boundary, step = second, 2.0**-16
    elif draw.random() < 0.5 and options["layout"] != "arrival":
        options["uniform_bits"] = 64
        boundary, step = first + (second >> 12) / 2**20, 2.0**-20
    else:
        boundary, step = first, 2.0**-16
    options["c"] = (boundary + draw.choice([-1, 0, 1]) * step) / TWO32
    shapes = {"q": (batch, heads, n_q, 2), "k": (batch, heads, 1, 2), "v": (batch, heads, 1, 3), "do": (batch, heads, n_q, 3)}
    return options, {n: ("F32", tensor(draw, shape)) for n, shape in shapes.items()}


def command_line(draw, options):
    """Moves some options from the metadata to the command line (or says them twice)."""
    flags, stored = [], dict(options)
    for key in ON_THE_COMMAND_LINE:
        if key not in options or draw.random() < 0.7 or options[key] is False:
            continue
        value = options[key]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags.append("--causal" if key == "causal" else f"--{key.replace('_', '-')}={text}")
        if draw.random() < 0.8:
            del stored[key]
            if key == "c":
                del stored["pass"]
    if options["pass"] == "dense" and draw.random() < 0.3:
        del stored["pass"]
        flags.append("--dense")
    if draw.random() < 0.3 and stored:
        stored["spec"] = "sus-oracle/1"
    return stored, flags


def norm(array):
    return float(np.linalg.norm(np.asarray(array, float)))


def compare(found, dtypes, reference, noise, tiny):
    """A list of what differs between the command's tensors and the reference's."""
    wrong = [f"{n}: missing" for n in reference if n not in found]
    wrong += [f"{n}: not expected" for n in found if n not in reference]
    if wrong:
        return wrong
    for name in sorted(reference):
        dtype, want = sus_reference.rounded(reference)[name]
        got = found[name]
        if dtypes[name] != dtype or got.shape != want.shape:
            wrong.append(f"{name}: {dtypes[name]} {got.shape}, expected {dtype} {want.shape}")
        elif name == "mask/values":
            size = max([10.0, *np.abs(reference["lse"][np.isfinite(reference["lse"].astype(float))].astype(float)).ravel()])
            if np.any(np.abs(got - want) > 1e-13 * size / 10 * np.abs(want)):
                wrong.append(f"{name}: relative difference {np.max(np.abs(got / want - 1)):.3g}")
        elif dtype != "F64":
            if not np.array_equal(got, want):
                wrong.append(f"{name}: pattern differs")
        else:
            infinite = np.isinf(want)
            if np.any(np.isnan(got)) or np.any(np.isinf(got) != infinite) or np.any(got[infinite] != want[infinite]):
                wrong.append(f"{name}: infinite or NaN in other places")
                continue
            error = norm(np.where(infinite, 0, got) - np.where(infinite, 0, want))
            size = norm(np.where(infinite, 0, want))
            if not error <= 1e-12 * size + tiny * norm(noise[name]):
                wrong.append(f"{name}: difference {error:.3g} of norm {size:.3g}")
    return wrong


def run_case(binary, seed, number, folder):
    """Runs one case; returns (its options, what is wrong)."""
    draw = random.Random(f"sus-oracle fuzz {seed} {number}")
    options, tensors = tie_case(draw) if number % 8 == 7 else random_case(draw)
    stored, flags = command_line(draw, options)
    problem, out = folder / "problem.safetensors", folder / "out.safetensors"
    out.unlink(missing_ok=True)
    sus_files.write(problem, tensors, stored if stored or draw.random() < 0.5 else None)
    dtype = draw.choice([None, None, "f64", "dd"])
    arguments = [binary, "grad", str(problem), *flags, "--out", str(out)] + (["--dtype", dtype] if dtype else [])
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        return options, arguments, [f"exit code {done.returncode}: {done.stderr.strip()[-300:]}"]
    read = sus_files.read(problem)[1]
    # What stands in the padding is not read; a NaN there would be read as one.
    reference, noise = sus_reference.gradients(options, {n: np.nan_to_num(a, nan=3.0, posinf=3.0, neginf=-np.inf) for n, a in read.items()})
    _, found, dtypes = sus_files.read(out)
    return options, arguments, compare(found, dtypes, reference, noise, 1e-28 if dtype == "dd" else 1e-14)


def main():
    parser = argparse.ArgumentParser(description="Compare the command with the independent reference.")
    parser.add_argument("binary")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this one case")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    given = parser.parse_args()
    failures, counts = 0, collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.cases) if given.only is None else [given.only]:
            options, arguments, wrong = run_case(given.binary, given.seed, number, Path(folder))
            counts.update(f"{k}={v}" for k, v in options.items() if k in ("pass", "rule", "sampler", "layout"))
            if wrong:
                failures += 1
                kept = given.keep / f"seed{given.seed}-case{number}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                print(f"case {number}: {'; '.join(wrong)}\n  {json.dumps(options)}\n  {' '.join(arguments)}\n  kept in {kept}")
    total = given.cases if given.only is None else 1
    print(f"{total - failures} passed, {failures} failed; seed {given.seed}; {dict(sorted(counts.items()))}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
