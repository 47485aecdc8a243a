"""`table`: results of `measure` and `train` as tables in Markdown.

Of `measure`: for every model and n a row for each setting, the increase of the variance in percent with its standard error, by the mean
over windows (all parameters, attention's projections), without windows of a freak gradient, and by medians; what the mask adds, in percent of the first setting's, on the same windows. Of `train`: the
losses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .summary import read_result

HEAD = ("model", "n", "setting", "windows", "all", "attention", "trimmed", "median", "of the first", "kept/row", r"\|sum e\|^2 / sum \|e\|^2")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("headline table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of measure, train or summary")
    args = parser.parse_args(words)
    for path in args.results:
        value = read_result(path)
        rows = measured(value["runs"]) if value["command"] == "measure" else trained(value["runs"])
        print(f"{path.name}\n\n" + markdown(rows) + "\n")


def markdown(rows: list[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def percent(value: Sequence[float]) -> str:
    """The error with two digits, the value with as many decimals."""
    mean, error = 100 * value[0], 100 * value[1]
    decimals = next((places for places in range(7) if error >= 9.5 * 10.0**-places), 7) if error > 0 else 3
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def measured(runs: list[dict[str, Any]]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [HEAD]
    for run in runs:
        for figure in run["figures"]:
            of, unbiased = figure["ratios"], figure["unbiased"]
            rows.append((
                str(run["model"]), str(run["n"]), figure["text"], str(figure["windows"]),
                percent(of["all"]["mean"]), percent(of["attention"]["mean"]), percent(of["all"]["trimmed"]), percent(of["all"]["median"]),
                percent(figure["of_first"]) if "of_first" in figure else "", f"{figure['kept']:.2f}", f"{unbiased['ratio']:.3f} ± {unbiased['error']:.3f}",
            ))  # fmt: skip
    return rows


def trained(runs: list[dict[str, Any]]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("run", "steps", "seconds", "training loss at the end", "held-out loss")]
    for run in runs:
        last = max(1, len(run["loss"]) // 20)
        end = f"{sum(run['loss'][-last:]) / last:.4f}"
        rows.append((run["name"], str(run["step"][-1]), f"{run['seconds'][-1]:.1f}", end, f"{run['held_out_loss'][-1]:.4f}"))
    return rows
