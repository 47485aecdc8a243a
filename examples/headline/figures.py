"""The figures of a measurement, from the numbers of its windows; each has a standard error.

With `S = sum g`, the variance between windows is `V = (sum |g|^2 - |S|^2 / N) / (N - 1)`, and `|S|^2 = sum S . g`. Leaving window `i` out,
`|S - g_i|^2 = |S|^2 - 2 S . g_i + |g_i|^2`: so the products `S . g_i` are all that the jackknife needs, for any group of parameters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: A window is left out of a trimmed mean if its `|g|^2` is above so many medians.
OUTLIER = 20
#: Resamples of the bootstrap for medians, for which the jackknife is not consistent (Efron 1982, section 3.4).
RESAMPLES = 400

ATTENTION = (".wq.", ".wk.", ".wv.", ".wo.")


def groups(names: list[str]) -> dict[str, np.ndarray]:
    """Which tensors belong to a group of parameters."""
    layers = sorted({int(name.split(".")[1]) for name in names if name.startswith("blocks.")})
    found = {"all": lambda _: True, "attention": lambda name: any(part in name for part in ATTENTION)}
    for of in ATTENTION:
        found[of.strip(".")] = lambda name, of=of: of in name
    for layer in layers:
        found[f"layer {layer}"] = lambda name, layer=layer: name.startswith(f"blocks.{layer}.")
    return {group: np.array([bool(test(name)) for name in names]) for group, test in found.items()}


def jackknife(leave_one_out: np.ndarray) -> float:
    """The standard error `sqrt((N - 1) / N sum (t_i - mean t)^2)` of a statistic from its values without window `i`."""
    count = len(leave_one_out)
    return math.sqrt((count - 1) / count * float(((leave_one_out - leave_one_out.mean()) ** 2).sum()))


def ratio(e2: np.ndarray, g2: np.ndarray, g_sum: np.ndarray) -> tuple[float, float]:
    """`mean |e|^2 / V` and its standard error, windows `[N]`."""
    count, s2 = len(e2), g_sum.sum()
    whole = e2.mean() / ((g2.sum() - s2 / count) / (count - 1))
    rest = count - 1
    added = (e2.sum() - e2) / rest
    between = (g2.sum() - g2 - (s2 - 2 * g_sum + g2) / rest) / (rest - 1)
    return float(whole), jackknife(added / between)


def mean_with_error(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


def median_ratio(e2: np.ndarray, distance2: np.ndarray) -> tuple[float, float]:
    """The median of `|e|^2` over that of `|g - mean g|^2`; the standard error by a bootstrap over windows."""
    picks = np.random.default_rng(0).integers(0, len(e2), (RESAMPLES, len(e2)))
    resampled = np.median(e2[picks], 1) / np.median(distance2[picks], 1)
    return float(np.median(e2) / np.median(distance2)), float(resampled.std(ddof=1))


def figures(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Of every setting: the ratios of every group, trimmed and not, bias, and what was kept."""
    count = len(run["g_sum"])
    arrays = {key: np.array(run[key][:count]) for key in ("g2", "g_sum", "g_outliers")}
    inside = np.ones(count, bool)
    inside[[at for at in run["outliers"] if at < count]] = False
    complete = count == len(run["g2"])
    found = []
    for mask in run["masks"]:
        e2 = np.array(mask["e2"])
        table = {}
        for group, of in groups(run["tensors"]).items():
            e, g, s, s_out = (x[:, of].sum(1) for x in (e2, arrays["g2"], arrays["g_sum"], arrays["g_outliers"]))
            if not complete:
                # The sum is over more windows than the second pass had time for: V from the distances to the whole mean.
                entry = partial(e, g, s, np.array(run["g2"])[:, of].sum(1), inside)
            else:
                distance2 = g - 2 * s / count + s.sum() / count**2
                entry = {
                    "mean": ratio(e, g, s),
                    "trimmed": ratio(e[inside], g[inside], (s - s_out)[inside]),
                    "median": median_ratio(e, distance2),
                    "over_second_moment": pair_ratio(e, g),
                }
            table[group] = entry
        total = e2.sum(1)
        growth = np.array(mask["growth"])
        # Under no bias `growth` is a martingale's steps: (sum growth) / sqrt(sum growth^2) is near a standard normal number.
        bias = {
            "ratio": 1 + float(growth.sum() / total.sum()),
            "error": float(math.sqrt((growth**2).sum()) / total.sum()),
        } if total.sum() > 0 else {"ratio": 1.0, "error": 0.0}  # fmt: skip
        kept, expected = (float(np.mean(mask[key])) for key in ("kept", "expected"))
        visible = (run["n"] + 1) / 2
        shown = table["all"]
        found.append({
            "text": mask["text"],
            "ratios": {group: {kind: [float(f"{x:.6g}") for x in value] for kind, value in entry.items()} for group, entry in table.items()},
            "unbiased": bias,
            "of_first": [float(f"{x:.6g}") for x in pair_ratio(total, np.array(run["masks"][0]["e2"]).sum(1))],
            "kept": kept, "expected": expected, "kept_of_n": kept / run["n"], "kept_of_visible": kept / visible,
            "windows": count, "outliers": int((~inside).sum()),
            "line": f"{100 * shown['mean'][0]:.3g} +- {100 * shown['mean'][1]:.2g} %, trimmed {100 * shown['trimmed'][0]:.3g} +- "
            f"{100 * shown['trimmed'][1]:.2g} % ({100 * table['attention']['trimmed'][0]:.3g} % of attention), "
            f"median {100 * shown['median'][0]:.3g} %; kept {kept:.2f} a row; |sum e|^2 / sum |e|^2 = {bias['ratio']:.3f} +- {bias['error']:.3f}",
        })  # fmt: skip
    return found


def pair_ratio(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """`sum x / sum y` and its jackknife standard error."""
    return float(x.sum() / y.sum()), jackknife((x.sum() - x) / (y.sum() - y))


def partial(e2: np.ndarray, g2: np.ndarray, g_sum: np.ndarray, all_g2: np.ndarray, inside: np.ndarray) -> dict[str, tuple[float, float]]:
    """The ratios when only the first windows had masks drawn; the mean gradient is that of all windows.

    `|S|^2` is the sum of `S . g` over all windows, known for the first ones; the mean over these stands for the others.
    """
    count = len(all_g2)
    s2 = g_sum.mean() * count
    # E |g - mean g|^2 = (1 - 1/N) V, as the window is itself in the mean.
    distance2 = (g2 - 2 * g_sum / count + s2 / count**2) / (1 - 1 / count)
    return {
        "mean": pair_ratio(e2, distance2),
        "trimmed": pair_ratio(e2[inside], distance2[inside]),
        "median": median_ratio(e2, distance2),
        "over_second_moment": pair_ratio(e2, g2),
    }
