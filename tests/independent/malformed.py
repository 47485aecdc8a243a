"""Malformed input: each must be refused with exit code 2 and one clear line, and leave no file.

    python malformed.py SUS_ORACLE

Prints one line per failure, then `N passed, M failed`; exits with 1 if anything failed.  A few sound problems
come first, as controls: where they are refused, the refusals of the others say nothing.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import sus_files

B, HQ, HK, NQ, NK, D, E = 1, 4, 2, 3, 5, 2, 3
SHAPES = {"q": (B, HQ, NQ, D), "k": (B, HK, NK, D), "v": (B, HK, NK, E), "do": (B, HQ, NQ, E)}
OPTIONAL = {"dlse": (B, HQ, NQ), "bias": (1, HQ, NQ, NK), "sink": (HQ,)}
SUS = {"spec": "sus-oracle/1", "pass": "sus", "c": 2.0, "seed": 7}


def sound(**changes):
    """The tensors of a sound problem, all optional ones included; a change of None takes a tensor away."""
    tensors = {}
    for name, shape in (SHAPES | OPTIONAL).items():
        count = int(np.prod(shape))
        tensors[name] = ("F32", (np.arange(count) % 7 - 3).reshape(shape) / 4)
    tensors |= {name: change if isinstance(change, tuple) else ("F32", change) for name, change in changes.items() if change is not None}
    return {name: tensor for name, tensor in tensors.items() if changes.get(name, 0) is not None}


def packed(metadata=SUS, **changes):
    return sus_files.pack(sound(**changes), metadata)


def meta(**changes):
    """A sound problem with metadata keys changed; None takes one away."""
    return packed({k: v for k, v in (SUS | changes).items() if v is not None})


def header_edit(edit):
    """A sound file whose header, as an object, is changed by a function."""
    data = packed()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    edit(header)
    return sus_files.frame(json.dumps(header).encode(), data[8 + length :])


def raw_metadata(text):
    return sus_files.pack(sound(), header_metadata={"sus_oracle": text})


def with_value(name, value):
    _, array = sound()[name]
    array = array.copy()
    array.flat[-1] = value
    return packed(**{name: array})


def file_cases():
    """name -> the bytes of a file."""
    whole = packed()
    (length,) = struct.unpack("<Q", whole[:8])
    cases = {
        "empty file": b"",
        "seven bytes": b"\x01" * 7,
        "truncated header": whole[: 8 + length // 2],
        "truncated data": whole[:-5],
        "data too long": whole + b"\0" * 8,
        "header length zero": struct.pack("<Q", 0) + whole[8:],
        "header length huge": struct.pack("<Q", 2**63) + whole[8:],
        "header length all ones": b"\xff" * 8 + whole[8:],
        "header not JSON": sus_files.frame(b"{not json", b""),
        "header not UTF-8": sus_files.frame(b'{"\xff\xfe":1}', b""),
        "header a list": sus_files.frame(b"[1,2]", b""),
        "header empty object": sus_files.frame(b"{}", b""),
        "text file": b"this is no safetensors file, only words\n" * 5,
        "offsets overlap": header_edit(lambda h: h["q"].update(data_offsets=h["k"]["data_offsets"])),
        "offsets out of range": header_edit(lambda h: h["q"].update(data_offsets=[10**12, 10**12 + 96])),
        "offsets reversed": header_edit(lambda h: h["q"]["data_offsets"].reverse()),
        "shape overflows": header_edit(lambda h: h["q"].update(shape=[2**40, 2**40, 2**40, 2])),
        "shape negative": header_edit(lambda h: h["q"].update(shape=[1, -4, 3, 2])),
        "shape overflows in an empty tensor": packed(k=("F32", (2**62, 2**62, 0, 2), b"")),
        "unknown dtype": header_edit(lambda h: h["q"].update(dtype="F31")),
        "metadata not JSON": raw_metadata("{c: 2"),
        "metadata empty": raw_metadata(""),
        "metadata a list": raw_metadata("[]"),
        "metadata a number": raw_metadata("3"),
        "unknown tensor": packed(qq=np.zeros((1, 2))),
        "Hq % Hk != 0": packed(k=np.ones((B, 3, NK, D)), v=np.ones((B, 3, NK, E))),
        "Hk = 0": packed(k=np.ones((B, 0, NK, D)), v=np.ones((B, 0, NK, E))),
        "Hk above Hq": packed(k=np.ones((B, 8, NK, D)), v=np.ones((B, 8, NK, E))),
        "D = 0": packed(q=np.ones((B, HQ, NQ, 0)), k=np.ones((B, HK, NK, 0))),
        "bias does not broadcast": packed(bias=np.ones((1, 2, NQ, NK))),
        "bias with one key for all": packed(bias=np.ones((1, HQ, NQ, 1))),
        "sink of key heads": packed(sink=np.ones(HK)),
        "batches differ": packed(k=np.ones((2, HK, NK, D)), v=np.ones((2, HK, NK, E))),
    }
    for name in SHAPES:
        cases[f"{name} missing"] = packed(**{name: None})
    for name, shape in (SHAPES | OPTIONAL).items():
        cases[f"{name} of another rank"] = packed(**{name: np.ones((*shape, 1))})
        cases[f"{name} a scalar"] = packed(**{name: np.ones(())})
        cases[f"{name} one longer at the end"] = packed(**{name: np.ones((*shape[:-1], shape[-1] + 1))})
        cases[f"{name} with NaN"] = with_value(name, np.nan)
        cases[f"{name} with infinity"] = with_value(name, np.inf if name == "bias" else -np.inf)
        cases[f"{name} of integers"] = packed(**{name: ("I32", np.ones(shape, int))})
        cases[f"{name} of booleans"] = packed(**{name: ("BOOL", np.ones(shape, int))})
    # One wrong size at a time; the last axis of v and do (both E) and q and k (both D) was done above.
    for name, axis in (("q", 1), ("q", 2), ("k", 1), ("k", 2), ("v", 1), ("v", 2), ("do", 0), ("do", 1), ("do", 2), ("dlse", 0), ("dlse", 1)):
        shape = list(SHAPES.get(name) or OPTIONAL[name])
        shape[axis] += 1
        cases[f"{name} with axis {axis} one longer"] = packed(**{name: np.ones(shape)})
    return cases | metadata_cases()


def metadata_cases():
    bad = {
        "spec": ["sus-oracle/2", 1],
        "pass": ["Sus", "both", 0, True],
        "scale": ["1", True, [1.0]],
        "softcap": [0, 0.0, -1.0, "2"],
        "causal": [1, "true"],
        "alignment": ["centre", "top_left", 0],
        "window": [3, [1], [1, 2, 3], [-1, 2], [1, -2], [1.5, 2], ["1", 2], "1,2"],
        "c": [0, 0.0, -0.0, -1.5, "30", "nan", True, [2]],
        "rule": ["Paper", "optimal", 1],
        "sampler": ["poisson", 0],
        "seed": [-1, 2**64, 1.5, "7"],
        "stream": [-1, 2**31, 2**32, 0.5],
        "layout": ["coord5", 4],
        "uniform_bits": [16, 33, "32"],
    }
    cases = {f"metadata {key} = {json.dumps(value)}": meta(**{key: value}) for key, values in bad.items() for value in values}
    for key, text in {"c": "NaN", "scale": "Infinity", "softcap": "NaN"}.items():
        cases[f"metadata {key} = bare {text}"] = raw_metadata(f'{{"pass":"sus","c":2.0,"{key}":{text}}}'.replace('"c":2.0,"c"', '"c"'))
    cases["metadata scale = 1e999"] = raw_metadata('{"pass":"dense","scale":1e999}')
    cases["metadata unknown key"] = meta(temperature=1.0)
    cases["metadata key of another spelling"] = meta(Causal=True)
    cases["uniform_bits 64 with systematic"] = meta(uniform_bits=64, sampler="systematic")
    cases["uniform_bits 64 with arrival"] = meta(uniform_bits=64, layout="arrival")
    right = {"segments_q": [0, 1, NQ], "segments_k": [0, 2, NK]}
    for why, change in {
        "not from 0": {"segments_q": [1, 2, NQ]}, "decreasing": {"segments_k": [0, 4, 2, NK], "segments_q": [0, 1, 2, NQ]},
        "not to Nq": {"segments_q": [0, 1, NQ - 1]}, "beyond Nk": {"segments_k": [0, 2, NK + 1]},
        "queries alone": {"segments_k": None}, "keys alone": {"segments_q": None}, "of unequal counts": {"segments_q": [0, NQ]},
        "empty list": {"segments_q": [], "segments_k": []}, "negative": {"segments_q": [0, -1, NQ]},
        "fractional": {"segments_q": [0, 1.5, NQ]}, "a number": {"segments_q": 3}, "huge": {"segments_q": [0, 2**64, NQ]},
    }.items():  # fmt: skip
        cases[f"segments {why}"] = meta(**(right | change))
    return cases


def command_cases():
    """name -> (bytes of the problem, options, may the error have more lines: a usage error)."""
    plain = packed(None)
    cases = {
        "--c 0": (plain, ["--c", "0"]), "--c -1": (plain, ["--c=-1"]), "--c nan": (plain, ["--c", "nan"]),
        "--c words": (plain, ["--c", "many"]), "--dense with --c": (plain, ["--dense", "--c", "3"]),
        "unknown option": (plain, ["--dense", "--frobnicate"]), "--seed negative": (plain, ["--c", "2", "--seed=-1"]),
        "--seed above u64": (plain, ["--c", "2", "--seed", str(2**64)]), "--stream 2^31": (plain, ["--c", "2", "--stream", str(2**31)]),
        "--rule unknown": (plain, ["--c", "2", "--rule", "best"]), "--sampler unknown": (plain, ["--c", "2", "--sampler", "best"]),
        "--layout unknown": (plain, ["--c", "2", "--layout", "best"]), "--window of one": (plain, ["--dense", "--window", "3"]),
        "--window negative": (plain, ["--dense", "--window=-1,2"]), "--softcap 0": (plain, ["--dense", "--softcap", "0"]),
        "--scale nan": (plain, ["--dense", "--scale", "nan"]), "--scale inf": (plain, ["--dense", "--scale", "inf"]),
        "--alignment unknown": (plain, ["--dense", "--alignment", "centre"]), "--dtype unknown": (plain, ["--dense", "--dtype", "f8"]),
    }  # fmt: skip
    cases = {name: (*case, True) for name, case in cases.items()}
    everything = packed(SUS | {"causal": True, "alignment": "top-left", "window": [1, 2], "scale": 0.5, "softcap": 2.0, "rule": "paper",
                               "sampler": "bernoulli", "stream": 3, "layout": "linear4", "uniform_bits": 32})  # fmt: skip
    for key, value in {"c": 3, "seed": 8, "stream": 4, "rule": "calibrated", "sampler": "systematic", "layout": "coord4", "scale": 0.25,
                       "softcap": 3, "alignment": "bottom-right", "window": "2,1"}.items():  # fmt: skip
        cases[f"--{key} against the metadata"] = (everything, [f"--{key}", str(value)], False)
    cases["--dense against the metadata"] = (everything, ["--dense"], False)
    cases["--c against pass dense"] = (packed({"pass": "dense"}), ["--c", "2"], False)
    cases["--causal against causal false"] = (packed({"pass": "dense", "causal": False}), ["--causal"], False)
    cases["NaN on --dense"] = (sus_files.pack(sound(q=np.full(SHAPES["q"], np.nan))), ["--dense"], False)
    return cases


def judge(done, many_lines, names=""):
    """What is wrong with a refusal, which has to hold `names` in its line; an empty list if nothing is."""
    wrong = []
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode != 2:
        wrong.append(f"exit code {done.returncode}")
    if "panicked" in done.stderr or "panicked" in done.stdout:
        wrong.append("panicked")
    if not lines or (len(lines) > 1 and not many_lines):
        wrong.append(f"{len(lines)} lines on stderr")
    if names not in done.stderr:
        wrong.append("does not name the file")
    return wrong + ([lines[0][:160]] if wrong and lines else [])


def main():
    binary, passed, failed = sys.argv[1], 0, 0

    def report(name, wrong):
        nonlocal passed, failed
        passed, failed = passed + (not wrong), failed + bool(wrong)
        if wrong:
            print(f"{name}: {'; '.join(wrong)}")

    def run(*arguments):
        return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=60, errors="replace")

    with tempfile.TemporaryDirectory() as folder:
        problem, outputs = Path(folder) / "problem.safetensors", Path(folder) / "out"
        outputs.mkdir()
        out = outputs / "out.safetensors"

        def refused(name, data, options=(), many_lines=False):
            problem.write_bytes(data)
            done = run("grad", problem, *options, "--out", out)
            left = [f"left {path.name}" for path in outputs.iterdir()]
            report(name, judge(done, many_lines, "" if many_lines else problem.name) + left)
            for path in outputs.iterdir():
                path.unlink()

        for name, (data, options) in {
            "control: sus": (packed(), []), "control: dense": (packed({"pass": "dense"}), []),
            "control: no metadata": (packed(None), ["--dense"]), "control: the same twice": (packed(), ["--seed", "7", "--c", "2"]),
            "control: segments": (meta(segments_q=[0, 1, NQ], segments_k=[0, 2, NK]), []),
        }.items():  # fmt: skip
            problem.write_bytes(data)
            done = run("grad", problem, *options, "--out", out)
            ok = done.returncode == 0 and out.exists()
            report(name, [] if ok else [f"exit code {done.returncode}: {done.stderr.strip()[:160]}"])
            out.unlink(missing_ok=True)

        for name, data in file_cases().items():
            refused(name, data)
        for name, (data, options, many_lines) in command_cases().items():
            refused(name, data, options, many_lines)

        # Paths.
        whole = packed()
        problem.write_bytes(whole)
        paths = {
            "missing file": ([Path(folder) / "none.safetensors", "--out", out], False),
            "problem is a folder": ([folder, "--out", out], False),
            "no --out": ([problem], True),
            "no problem": (["--out", out], True),
            "--out in a missing folder": ([problem, "--out", Path(folder) / "no" / "out.safetensors"], False),
            "--out is a folder": ([problem, "--out", outputs], False),
            "--out is the problem": ([problem, "--out", problem], False),
            "--out is the problem by another name": ([problem, "--out", outputs / ".." / problem.name], False),
        }
        for name, (arguments, many_lines) in paths.items():
            wrong = judge(run("grad", *arguments), many_lines)
            wrong += [f"left {path.name}" for path in outputs.iterdir()]
            wrong += [] if problem.read_bytes() == whole else ["the problem was changed"]
            wrong += [] if sorted(p.name for p in Path(folder).iterdir()) == ["out", problem.name] else ["left a file"]
            report(name, wrong)
            problem.write_bytes(whole)

    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
