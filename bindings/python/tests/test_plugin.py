"""The pytest plugin, in a pytest of its own."""

import os

import pytest

TEST = """
import numpy as np
import sus_oracle as so

rng = np.random.default_rng(0)
PROBLEM = {name: rng.standard_normal((1, 12, 2, 8)).astype(np.float32) for name in ("q", "k", "v", "do")}
SETTINGS = {"layout": "bshd", "causal": True, %s}


def candidate(factor):
    found = so.grad(PROBLEM, **SETTINGS)
    return {"dq": found["dq"].astype("f"), "dk": found["dk"].astype("f"), "dv": (factor * found["dv"]).astype("f")}


def test_right(attention_oracle):
    assert attention_oracle(PROBLEM, candidate(1), **SETTINGS).outcome == "PASS"


def test_wrong(attention_oracle):
    attention_oracle(PROBLEM, candidate(1), **SETTINGS)
    attention_oracle(PROBLEM, candidate(2), recipe="f32", **SETTINGS)
"""


@pytest.mark.parametrize("draw", ['"scale": 0.5', '"c": 3.0, "seed": 4'])
def test_a_failure_is_saved_and_its_command_judges_it_again(pytester, command, draw):
    pytester.makepyfile(TEST % draw)
    result = pytester.runpytest_subprocess("--sus-oracle-save", "kept", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*WrongGradient:*", "*saved      sus-oracle check kept/test_wrong-2/problem.safetensors*"]
    )
    # The passing calls leave nothing behind.
    assert sorted(os.listdir(pytester.path / "kept")) == ["test_wrong-2"]
    line = next(line for line in result.outlines if "saved      sus-oracle" in line)
    words = line.partition("sus-oracle check ")[2].split()
    assert words[2:] == ["--recipe", "f32"]
    done = command("check", *(str(pytester.path / word) if "/" in word else word for word in words))
    # Of the same problem: dq and dk are right in it.
    assert done.returncode == 1, done.stderr
    outcomes = [line.split()[:2] for line in done.stdout.splitlines() if line[:3] in ("dq ", "dk ", "dv ")]
    assert outcomes[:3] == [["dq", "PASS"], ["dk", "PASS"], ["dv", "FAIL"]], done.stdout


def test_without_the_option_nothing_is_written(pytester):
    pytester.makepyfile(TEST % '"scale": 0.5')
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    assert not list(pytester.path.rglob("*.safetensors"))
    # The traceback ends at the caller's line.
    assert not any("/sus_oracle/" in line for line in result.outlines)


def test_the_option_is_described(pytester):
    result = pytester.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(["*--sus-oracle-save=DIR*"])
