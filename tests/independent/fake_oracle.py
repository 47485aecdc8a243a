"""A stand-in for the command, made of the reference with a bug put in: what fuzz.py must catch.

    python fake_oracle.py SELF              runs the whole test: no bug passes, every bug is caught
    SUS_FAKE_BUG=name python fake_oracle.py grad PROBLEM ... --out OUT
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import sus_reference
import sus_uniforms

HERE = Path(__file__).parent


def wrong_visible(right):
    return lambda options, i, n_q, n_k: right(options | {"alignment": "bottom-right"}, i, n_q, n_k)


def wrong_window(right):
    def visible(options, i, n_q, n_k):
        window = options["window"] and [options["window"][0], options["window"][1] + 1]
        return right(options | {"window": window}, i, n_q, n_k)

    return visible


def wrong_word(change):
    """Words at a changed place: (layout, seed, stream, b, h, i, j, heads, n_q, n_k) -> the same."""
    return lambda right: lambda *place: right(*change(*place))


def wrong_gradients(change):
    def wrap(right):
        def gradients(options, x):
            return change(right, options, x)

        return gradients

    return wrap


def relative_error(right, options, x):
    out, noise = right(options, x)
    out["dk"] = out["dk"] * (1 + sus_reference.mpf(10) ** -11)
    return out, noise


def without(key):
    return wrong_gradients(lambda right, options, x: right({k: v for k, v in options.items() if k != key}, x))


# bug: (module, function, what wraps it)
BUGS = {
    "none": None,
    "alignment ignored": (sus_reference, "visible", wrong_visible),
    "window one too wide": (sus_reference, "visible", wrong_window),
    "seed cut to 32 bits": (sus_reference, "word", wrong_word(lambda layout, seed, *rest: (layout, seed & 0xFFFFFFFF, *rest))),
    "stream ignored": (sus_reference, "word", wrong_word(lambda layout, seed, stream, *rest: (layout, seed, stream & sus_reference.SECOND, *rest))),
    "no second stream": (sus_reference, "word", wrong_word(lambda layout, seed, stream, *rest: (layout, seed, stream & 0x7FFFFFFF, *rest))),
    "batch left out of the words": (sus_reference, "word", wrong_word(lambda a, b, c, batch, *rest: (a, b, c, 0, *rest))),
    "keep on equality": (sus_reference, "keep", lambda right: lambda q, x, second=None: right(q, x, second) or x == q * sus_uniforms.TWO32),
    "second word unused": (sus_reference, "keep", lambda right: lambda q, x, second=None: right(q, x)),
    "lambda a little too small": (sus_reference, "multiplier", lambda right: lambda rule, c, w: right(rule, c, w) * (1 if rule == "paper" else sus_reference.mpf("0.999999999"))),
    "softcap ignored": (sus_reference, "gradients", without("softcap")),
    "rule ignored": (sus_reference, "gradients", without("rule")),
    "dk wrong by 1e-11": (sus_reference, "gradients", wrong_gradients(relative_error)),
}  # fmt: skip


def self_test():
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "fake-oracle"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
        script.chmod(0o755)
        for bug in BUGS:
            command = [sys.executable, str(HERE / "fuzz.py"), str(script), "--cases", os.environ.get("CASES", "150"), "--keep", folder]
            done = subprocess.run(command, env=os.environ | {"SUS_FAKE_BUG": bug}, capture_output=True, text=True)
            lines = done.stdout.strip().splitlines() or [done.stderr]
            print(f"{bug}: exit {done.returncode}, {lines[-1].split(';')[0]}", flush=True)
            if done.returncode != (0 if bug == "none" else 1) or "failed" not in lines[-1]:
                failed.append(bug)
    print("as it should be" if not failed else f"wrong for: {failed}")
    sys.exit(1 if failed else 0)


def main():
    if sys.argv[1:] == ["SELF"]:
        self_test()
    bug = BUGS[os.environ["SUS_FAKE_BUG"]]
    if bug is not None:
        module, name, wrap = bug
        setattr(module, name, wrap(getattr(module, name)))
    sus_reference.main(sys.argv[1:])


if __name__ == "__main__":
    main()
