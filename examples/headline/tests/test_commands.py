"""The commands on a tiny model: the same result after a stop, figures, tables, pictures, and bad input in one line."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from headline import __main__, measure, train

TINY = ["--layers", "2", "--width", "16", "--heads", "2", "--hidden", "32", "--n", "24", "--batch", "2", "--held-out", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"def f{i}(x):\n    return x + {i * i}\n" for i in range(600)))
    return path


def trained(out: Path, text: Path, *more: str) -> dict:
    train.main([*TINY, "--out", str(out), "--text", str(text), "--steps", "12", "--save-seconds", "0", *more])
    return json.loads((out / "train.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    out = tmp_path_factory.mktemp("model")
    trained(out, text)
    return out / "dense-1.safetensors"


def measured(path: Path, model: Path, text: Path, *more: str) -> dict:
    path.parent.mkdir(exist_ok=True)
    words = ["--model", str(model), "--json", str(path), "--n", "24", "--windows", "10", "--c", "2,1e9", "--share", "2", "--whole"]
    measure.main([*words, "--text", str(text), "--device", "cpu", "--save-seconds", "0", *more])
    return json.loads(path.read_text())


def test_a_training_that_was_stopped_goes_on_as_if_it_was_not(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole", text, "--runs", "dense,systematic:3")
    assert [run["step"][-1] for run in whole["runs"]] == [12, 12]
    assert whole["runs"][0]["loss"] != whole["runs"][1]["loss"]
    inner, calls = train.corpus.random_batch, []

    def stops(*args):
        calls.append(args)
        if len(calls) == 17:
            raise KeyboardInterrupt
        return inner(*args)

    with monkeypatch.context() as patch:
        patch.setattr(train.corpus, "random_batch", stops)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts", text, "--runs", "dense,systematic:3")
    again = trained(tmp_path / "parts", text, "--runs", "dense,systematic:3")
    for a, b in zip(whole["runs"], again["runs"], strict=True):
        assert (a["step"], a["loss"], a["held_out_loss"]) == (b["step"], b["loss"], b["held_out_loss"])


def test_a_measurement_that_was_stopped_goes_on_as_if_it_was_not(tmp_path: Path, model: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(tmp_path / "whole" / "m.json", model, text)
    inner = measure.Measurement.second

    def stops(self, at: int) -> None:
        if at == 4:
            raise KeyboardInterrupt
        inner(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(measure.Measurement, "second", stops)
        with pytest.raises(KeyboardInterrupt):
            measured(tmp_path / "parts" / "m.json", model, text)
    assert not (tmp_path / "parts" / "m.json").exists()
    again = measured(tmp_path / "parts" / "m.json", model, text)
    assert again["runs"][0]["masks"] == whole["runs"][0]["masks"]
    assert again["runs"][0]["figures"] == whole["runs"][0]["figures"]


def test_the_figures_of_a_tiny_model(tmp_path: Path, model: Path, text: Path) -> None:
    found = {figure["text"]: figure for figure in measured(tmp_path / "m.json", model, text)["runs"][0]["figures"]}
    assert set(found) == {"c=2", "c=1e9", "c=2,layers=0", "c=2,layers=1", "c=2,without=0", "c=2,without=1"}
    assert found["c=1e9"]["ratios"]["all"]["mean"][0] < 1e-9, "all is kept: the dense gradient, up to the rounding of float32"
    assert found["c=2"]["ratios"]["all"]["mean"][0] > 1e-4
    assert found["c=2"]["kept"] <= 2.2
    assert found["c=2,layers=0"]["ratios"]["layer 1"]["mean"][0] == 0, "a mask below a layer does not reach its gradients"
    assert found["c=2,without=0"]["ratios"]["layer 0"]["mean"][0] > 0, "a mask above does"
    for figure in found.values():
        assert abs(figure["unbiased"]["ratio"] - 1) <= 5 * figure["unbiased"]["error"]


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["headline", *words])
    return __main__.main()


def test_summary_table_and_plot(tmp_path: Path, model: Path, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    measured(tmp_path / "m.json", model, text, "--n", "12,24")
    assert run(["summary", str(tmp_path / "m.json"), str(model.parent / "train.json"), "--out", str(tmp_path / "short")], monkeypatch) == 0
    capsys.readouterr()
    tables = []
    for path in (tmp_path / "m.json", tmp_path / "short" / "m.json"):
        assert run(["table", str(path)], monkeypatch) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] and tables[0].count("| 24 | c=2 |") == 1 and "±" in tables[0]
    assert "g_sum" not in (tmp_path / "short" / "m.json").read_text()
    for of, name in (("n", "m.json"), ("share", "m.json"), ("steps", "train.json"), ("time", "train.json")):
        picture = tmp_path / f"{of}.svg"
        assert run(["plot", of, f"it={tmp_path / 'short' / name}", "--out", str(picture)], monkeypatch) == 0
        root = xml.fromstring(picture.read_text())
        places = [float(x) for line in root.iter("{http://www.w3.org/2000/svg}polyline") for pair in line.get("points").split() for x in pair.split(",")]
        assert len(places) > 20 and 0 <= min(places) and max(places) <= 640


BAD = [
    (["measure", "--n", "x"], "option 'n': expected numbers"),
    (["measure", "--windows", "2"], "option 'windows': expected 3 or more"),
    (["measure", "--c", "-1"], "a setting's c: expected a number above 0"),
    (["measure", "--setting", "c=3,rows=keys"], "a setting's rows: expected cotangent"),
    (["measure", "--setting", "c=3,centered"], "a setting: expected NAME=VALUE"),
    (["measure", "--setting", "c=3,rule=calibrated,remainder"], "expected rule=paper"),
    (["measure", "--budgets", "budgets.json"], "expected 2 layers of 2 heads"),
    (["measure", "--text", "nowhere"], "expected a file or a folder"),
    (["measure", "--n", "100000"], "expected two windows"),
    (["measure", "--model", "nowhere"], "option 'model'"),
]


@pytest.mark.parametrize(("words", "expected"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_line(words, expected, tmp_path, model, text, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("budgets.json").write_text('{"c": [[1, 2, 3]]}')
    more = {"--model": str(model), "--json": "out.json", "--text": str(text), "--device": "cpu"}
    words = words + [word for pair in more.items() if pair[0] not in words for word in pair]
    assert run(words, monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and expected in error and not Path("out.json").exists()


def test_a_file_that_is_no_result_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "x.json").write_text("[]")
    assert run(["table", str(tmp_path / "x.json")], monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1
