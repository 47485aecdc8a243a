"""`summary`: results without the numbers of single windows, small enough to be committed; `table` and `plot` read them as well."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .progress import read_json

#: Points of a curve that are kept: the mean loss of as many equal parts of a training.
POINTS = 50


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("headline summary", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of measure and train")
    parser.add_argument("--out", type=Path, required=True, help="folder; each file keeps its name, without .gz")
    args = parser.parse_args(words)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.results:
        value = read_result(path)
        value["runs"] = [shorter(run) for run in value["runs"]]
        text = json.dumps(value, separators=(",", ":")).replace('{"model"', '\n{"model"').replace('{"text":"c', '\n {"text":"c')
        (args.out / path.name.removesuffix(".gz")).write_text(text + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """What `measure`, `train` or `summary` wrote."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("command") not in ("measure", "train") or not isinstance(value.get("runs"), list):
        raise InputError(f"expected a result of measure or train, found {str(path)!r}")
    return value


def shorter(run: dict[str, Any]) -> dict[str, Any]:
    return measured(run) if "figures" in run else trained(run)


def measured(run: dict[str, Any]) -> dict[str, Any]:
    """The figures of all parameters and of attention's."""
    if "g2" not in run:
        return run
    figures = [
        {key: value for key, value in figure.items() if key != "line"} | {"ratios": {of: figure["ratios"][of] for of in ("all", "attention")}}
        for figure in run["figures"]
    ]
    return {key: run[key] for key in ("model", "n", "text")} | {
        "parameters": sum(run["sizes"]), "loss": float(f"{sum(run['loss']) / len(run['loss']):.6g}"), "figures": figures,
    }  # fmt: skip


def trained(run: dict[str, Any]) -> dict[str, Any]:
    """The curve in a number of points: a point is the mean of the steps since the last one, at the last of them."""
    steps = run["step"]
    if len(steps) <= POINTS:
        return run
    ends = [round((at + 1) * len(steps) / POINTS) for at in range(POINTS)]
    loss = [sum(run["loss"][a:b]) / (b - a) for a, b in zip([0, *ends], ends, strict=False)]
    points = {"step": [steps[b - 1] for b in ends], "seconds": [run["seconds"][b - 1] for b in ends], "loss": [round(x, 4) for x in loss]}
    return run | points
