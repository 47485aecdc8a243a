"""`plot`: the pictures of docs/paper.md as SVG, of results of `measure`, `train` or `summary`.

`n` and `c`: the increase of the variance against either; `share`: that of a mask in one layer alone; `steps` and `time`: the losses.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .summary import read_result
from .svg import Axis, Line, chart

Points = dict[str, list[tuple[float, float, float]]]
INCREASE = "increase of the variance, percent"


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("headline plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("of", choices=PLOTS)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files; NAME=FILE names its lines")
    parser.add_argument("--out", type=Path, required=True, help="an SVG file")
    args = parser.parse_args(words)
    results = []
    for word in map(str, args.results):
        name, equals, path = word.rpartition("=")
        results.append((name if equals else "", read_result(Path(path))))
    drawn = PLOTS[args.of](results)
    if drawn is None:
        raise InputError(f"option 'results': expected something to plot against {args.of}, found nothing in {len(results)} files")
    args.out.write_text(drawn)


def figures(results: list[tuple[str, dict[str, Any]]], pattern: str) -> list[tuple[str, dict[str, Any], re.Match[str], tuple[float, float]]]:
    """Name, run, setting and increase in percent of all settings of a form."""
    found = []
    for name, value in results:
        for run in value["runs"]:
            for figure in run.get("figures", []):
                match = re.fullmatch(pattern, figure["text"])
                if match:
                    mean, error = figure["ratios"]["all"]["mean"]
                    found.append((name, run, match, (100 * mean, 100 * error)))
    return found


def against_n(results: list[tuple[str, dict[str, Any]]]) -> str | None:
    """A colour for each file, a dash for each c."""
    points: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for name, run, match, increase in figures(results, r"c=(\d+)"):
        points[name, match[1]].append((run["n"], *increase))
    points = {key: sorted(line) for key, line in points.items() if len(line) > 1}
    names, budgets = (list(dict.fromkeys(key[at] for key in points)) for at in (0, 1))
    lines = [Line(f"{name} c = {c}".strip(), line, names.index(name), budgets.index(c)) for (name, c), line in points.items()]
    ticks = sorted({x for line in lines for x, _, _ in line.points})
    if not lines:
        return None
    return chart("Variance that the mask adds, over that between windows", Axis("n, tokens of a window", True, ticks), Axis(INCREASE, True), lines)


def against_c(results: list[tuple[str, dict[str, Any]]]) -> str | None:
    points: Points = defaultdict(list)
    for name, run, match, increase in figures(results, r"c=(\d+)(?:,sampler=(systematic))?"):
        if run["n"] == 2048:
            points[f"{name} {match[2] or 'bernoulli'}".strip()].append((float(match[1]), *increase))
    several = {name: sorted(line) for name, line in points.items() if len(line) > 1}
    return draw("Variance that the mask adds against c, n = 2048", Axis("c", True), Axis(INCREASE, True), several)


def share(results: list[tuple[str, dict[str, Any]]]) -> str | None:
    points: Points = defaultdict(list)
    for name, run, match, increase in figures(results, r"c=(\d+),layers=(\d+)"):
        points[f"{name} c = {match[1]}, n = {run['n']}".strip()].append((float(match[2]), *increase))
    return draw("Mask in one layer alone", Axis("layer"), Axis(INCREASE), points)


def losses(of: str, title: str) -> Callable[[list[tuple[str, dict[str, Any]]]], str | None]:
    def plot(results: list[tuple[str, dict[str, Any]]]) -> str | None:
        points: Points = {}
        for name, value in results:
            for run in value["runs"]:
                if "name" in run:
                    tail = range(len(run["step"]) // 10, len(run["step"]))  # the first tenth would take most of the axis
                    points[f"{name} {run['name']}".strip()] = [(run[of][at], run["loss"][at], 0.0) for at in tail]
        return draw("Training loss, after a tenth of the steps", Axis(title), Axis("nats per byte"), points)

    return plot


def draw(title: str, x: Axis, y: Axis, points: Points) -> str | None:
    return chart(title, x, y, [Line(name, line) for name, line in points.items()]) if points else None


PLOTS = {
    "n": against_n,
    "c": against_c,
    "share": share,
    "steps": losses("step", "steps"),
    "time": losses("seconds", "seconds of training"),
}  # fmt: skip
