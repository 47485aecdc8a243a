"""The functions of the package, the errors, and the bits of the command."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import sus_oracle as so
from conftest import ROOT, make_problem, reference, same_bits, visible
from sus_oracle._arrays import array_of, from_bytes, to_bytes

SETTINGS = {"causal": True, "scale": 0.3, "window": (4, 0)}


def candidate_of(problem, scale_of_dk=1.0, dtype=np.float32):
    nq, nk = problem["q"].shape[2], problem["k"].shape[2]
    found = reference(problem, visible(nq, nk, "bottom-right"))
    found["dk"] *= scale_of_dk
    return {name: x.astype(dtype) for name, x in found.items()}


def test_a_right_candidate_passes_and_a_wrong_one_fails_with_its_bug():
    problem = make_problem()
    report = so.check(problem, candidate_of(problem), causal=True)
    assert report and report.outcome == "PASS" and report.exit_code == 0 and "verdict    PASS" in str(report)
    report = so.check(problem, candidate_of(problem, 8**0.5), causal=True)
    assert not report and report.outcome == "FAIL" and report.json["verdict"] == "FAIL"
    assert "dk is 2.828427 (1 / scale) times the truth" in report.diagnosis
    assert {t["name"]: t["outcome"] for t in report.json["tensors"]}["dv"] == "PASS"


def test_each_outcome_raises_its_own_error():
    problem = make_problem()
    assert so.assert_correct(problem, candidate_of(problem), causal=True).outcome == "PASS"
    with pytest.raises(so.WrongGradient, match="times the truth") as caught:
        so.assert_correct(problem, candidate_of(problem, 8**0.5), causal=True)
    assert isinstance(caught.value, AssertionError) and caught.value.report.outcome == "FAIL"
    # Scores of some hundreds in bfloat16 are wrong by more than 1, so the weights are not known at all.
    with pytest.raises(so.Refused) as caught:
        so.assert_correct(problem, reference(problem, scale=50.0), scale=50.0, recipe="eager-bf16")
    assert not isinstance(caught.value, so.WrongGradient) and not caught.value.report
    # Two runs of a sampled pass without a seed.
    runs = [so.grad(problem, c=3, seed=seed) for seed in (1, 2)]
    stacked = {name: np.stack([run[name] for run in runs]) for name in ("dq", "dk", "dv")}
    with pytest.raises(so.Inconclusive) as caught:
        so.assert_correct(problem, stacked, c=3, recipe="f64")
    assert not caught.value.report


def test_without_c_the_pass_is_dense_whatever_the_seed():
    problem = make_problem()
    dense = so.grad(problem)
    same_bits(dense, so.grad(problem, seed=7))
    sampled = so.grad(problem, c=2.0, seed=7)
    assert "mask/values" in sampled and not np.array_equal(sampled["dq"], dense["dq"])
    same_bits(so.grad(problem, c=2.0), so.grad(problem, c=2.0, seed=0))
    same_bits(so.grad(problem, **{"pass": "sus"}, c=2.0, seed=7), sampled)


def test_a_sampled_pass_is_judged_by_its_seed():
    problem = make_problem()
    found = so.grad(problem, c=3.0, seed=9, causal=True)
    candidate = {name: found[name].astype(np.float32) for name in ("dq", "dk", "dv")}
    assert so.check(problem, candidate, c=3.0, seed=9, causal=True)
    assert so.check(problem, candidate, c=3.0, seed=8, causal=True).outcome == "FAIL"


def test_a_bias_a_sink_and_their_gradients():
    problem = make_problem()
    problem["bias"] = np.zeros((1, 4, 1, 11), np.float32)
    problem["sink"] = np.ones(4, np.float32)
    found = so.grad(problem)
    assert list(found) == ["o", "lse", "dq", "dk", "dv", "dbias", "dsink"]
    assert found["dbias"].shape == (1, 4, 1, 11) and found["dsink"].shape == (4,)
    same_bits(found, so.grad(make_problem(), bias=problem["bias"], sink=problem["sink"]))
    assert so.check(problem, found)


def test_several_candidates_are_runs():
    problem = make_problem()
    one = candidate_of(problem)
    other = {name: x.copy() for name, x in one.items()}
    assert so.check(problem, [one, other], causal=True, repeat="bitwise")
    other["dv"] = np.nextafter(other["dv"], np.float32(1))
    assert so.check(problem, [one, other], causal=True)
    assert so.check(problem, [one, other], causal=True, repeat="bitwise").outcome == "FAIL"


@pytest.mark.parametrize("dtype", ["f64", "f32", "dd"])
@pytest.mark.parametrize("draw", [{}, {"c": 3, "seed": 11, "sampler": "systematic"}, {"c": 2.5, "rule": "calibrated"}])
def test_gradients_have_the_bits_of_the_command(command, tmp_path, dtype, draw):
    problem = make_problem()
    path, out = tmp_path / "problem.safetensors", tmp_path / "out.safetensors"
    path.write_bytes(to_bytes({name: array_of(name, x) for name, x in problem.items()}, None))
    words = [word for key, value in draw.items() for word in (f"--{key}", value)] or ["--dense"]
    done = command(
        "grad", path, "--causal", "--window", "4,0", "--scale", "0.3", "--dtype", dtype, "--out", out, *words
    )
    assert done.returncode == 0, done.stderr
    arrays, _ = from_bytes(out.read_bytes())
    by_command = {name: array.data for name, array in arrays.items()}
    for source in (problem, path, str(path)):
        found = so.grad(source, dtype=dtype, **SETTINGS, **draw)
        same_bits(dict(sorted(found.items())), dict(sorted(by_command.items())))


@pytest.mark.parametrize("case", ["broken", "right"])
def test_a_report_is_that_of_the_command(command, tmp_path, case):
    folder = ROOT / "fixtures/broken"
    problem, candidate = folder / "case.safetensors", folder / "candidate.safetensors"
    words = []
    if case == "right":
        problem = ROOT / "fixtures/smoke/sus_heads.safetensors"
        candidate = tmp_path / "candidate.safetensors"
        found = so.grad(problem)
        candidate.write_bytes(to_bytes({name: array_of(name, found[name]) for name in ("dq", "dk", "dv")}, None))
        words = ["--recipe", "f64"]
    report = so.check(problem, candidate, recipe="f64" if words else None)
    done = command("check", problem, candidate, *words, *(["--json"] if case == "broken" else []))
    assert report.exit_code == done.returncode
    if case == "broken":
        # The command that makes it again is the one difference.
        assert report.json | {"command": report.json["command"] + " --json"} == json.loads(done.stdout)
    else:
        assert str(report) == done.stdout
    assert report.outcome == {"broken": "FAIL", "right": "PASS"}[case]


def test_analyses_are_those_of_the_command(command):
    small = ROOT / "fixtures/smoke/sus_one_key.safetensors"
    assert so.power(small) == json.loads(command("power", small, "--json").stdout)
    path = ROOT / "fixtures/smoke/sus_heads.safetensors"
    assert so.analyze(path, c=[5, 10]) == json.loads(command("analyze", path, "--c", "5,10", "--json").stdout)
    chosen = command("choose-c", path, "--target", "0.05", "--relative-to", "norm", "--json").stdout
    assert so.choose_c(path, target=0.05, relative_to="norm") == json.loads(chosen)


def test_fixtures_are_those_of_the_suite():
    smoke = so.fixtures("smoke")
    assert len(smoke) == len(list((ROOT / "fixtures/smoke").glob("*.safetensors"))) and "nothing" not in smoke
    name = "sus_heads"
    stored, _ = from_bytes((ROOT / f"fixtures/smoke/{name}.safetensors").read_bytes())
    case = smoke[name]
    same_bits(dict(sorted(case.items())), {key: array.data for key, array in sorted(stored.items())})
    assert case.entry["name"] == name and case.entry["purpose"]
    found = so.grad(case)
    assert so.check(case, {key: found[key] for key in ("dq", "dk", "dv")}, recipe="f64")
    with pytest.raises(KeyError):
        smoke["nothing"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"q": None}, r"problem: tensor 'q': expected one of shape \[B,Hq,Nq,D\], found none"),
        ({"quack": np.zeros(3)}, "tensor 'quack': expected one of .*, found an unknown name"),
        (
            {"k": np.zeros((2, 3, 11, 8), np.float32)},
            r"tensor 'k': expected shape \[2, 2, 11, 8\], found \[2, 3, 11, 8\]",
        ),
        ({"q": np.full((2, 4, 9, 8), np.nan, np.float32)}, "tensor 'q': expected finite numbers, found NaN"),
        ({"q": np.zeros((2, 4, 9, 8), np.int32)}, "tensor 'q': expected dtype F64, F32, F16 or BF16, found I32"),
    ],
)
def test_bad_arrays_are_one_line(change, said):
    with pytest.raises(so.InputError, match=said) as caught:
        so.grad({**make_problem(), **change})
    assert isinstance(caught.value, ValueError) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"causl": True}, "metadata key 'causl': expected one of .*, found an unknown key"),
        ({"c": 0}, "metadata key 'c'"),
        ({"c": float("nan")}, "expected finite numbers"),
        ({"scale": object()}, "metadata key 'scale': expected a number, a text or a list, found object"),
        ({"dtype": "f16"}, "option 'dtype': expected 'f64', 'f32' or 'dd', found 'f16'"),
        ({"mode": "given"}, "option 'mode': expected 'exact' for a file without 'o' and 'lse'"),
        ({"c": 3, "seed": -1}, "metadata key 'seed'"),
        ({"layout": "hbsd"}, "option 'layout': expected one of bhsd, bshd, sbhd, thd"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(so.InputError, match=said) as caught:
        so.grad(make_problem(), **settings)
    assert len(str(caught.value).splitlines()) == 1


def test_a_setting_that_contradicts_the_problem_is_an_error():
    problem = so.Problem(make_problem(), {"causal": False})
    with pytest.raises(so.InputError, match="option 'causal': expected false, as the file says, found true"):
        so.grad(problem, causal=True)


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (3, "candidate: expected a dict of arrays or a path, found int"),
        ([], "candidate: expected at least one"),
        ("nowhere.safetensors", "nowhere.safetensors: No such file"),
    ],
)
def test_a_candidate_that_is_none_is_one_line(candidate, said):
    with pytest.raises(so.InputError, match=said):
        so.check(make_problem(), candidate)


def test_results_under_foreign_names_fail_with_the_names_to_write():
    problem = make_problem()
    right = candidate_of(problem)
    report = so.check(problem, {"q.grad": right["dq"], "dk": right["dk"], "dv": right["dv"]}, causal=True)
    assert report.outcome == "FAIL" and "dq" in str(report)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_ctrl_c_stops_long_work_and_the_next_call_is_right():
    # Some seconds of double-double.
    problem = make_problem(b=1, hq=2, hk=2, nq=400, nk=400, d=64, e=64)
    candidate = {name: problem["q"] for name in ("dq", "dk", "dv")}
    old = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    begin = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            so.check(problem, candidate, recipe="f64", plain=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert time.monotonic() - begin < 3
    small = make_problem()
    assert so.check(small, candidate_of(small), causal=True)


def test_other_threads_run_while_a_call_works():
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    problem = make_problem(b=1, hq=2, hk=2, nq=200, nk=200, d=32, e=32)
    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    so.grad(problem, dtype="dd")
    seconds = time.monotonic() - begin
    stop.set()
    thread.join()
    during = [at for at in ticks if begin < at < begin + seconds]
    assert seconds > 0.02 and len(during) > 3, (seconds, len(during))


def test_the_layout_of_the_random_words_is_the_option_words():
    problem = make_problem()
    case = so.Problem(problem, {"pass": "sus", "c": 3.0, "layout": "linear4"})
    found = so.grad(problem, c=3.0, words="linear4")
    same_bits(found, so.grad(case))
    assert not np.array_equal(found["dq"], so.grad(problem, c=3.0)["dq"])
    assert so.check(problem, found, c=3.0, words="linear4", seed=0)
    with pytest.raises(so.InputError, match="found 'linear4' .*the option 'words'"):
        so.grad(problem, c=3.0, layout="linear4")


def test_paths_may_be_of_any_kind():
    path = ROOT / "fixtures/smoke/one_key.safetensors"
    same_bits(so.grad(path), so.grad(os.fspath(path)))
