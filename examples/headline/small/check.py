"""`python3 examples/headline/small/check.py`: the figures of the small model again, by NumPy alone, against those of PyTorch.

What no random number enters has to agree to the rounding of float32: losses, squared lengths of gradients, expected counts. What the
mask adds has to agree within its errors. Exit code 1 if something does not.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np

from network import Arrays, Network, read_weights

HERE = Path(__file__).resolve().parent
DRAWS = 3
#: Of float32 against float64, relative. Sums of 512 to 131072 products round by 1e-6 to 1e-5; a wrong formula is off by far more.
ROUNDING = 1e-4
#: Standard errors. They are estimated with 16 degrees of freedom or more (8 windows, 3 draws), so a comparison is further off by chance
#: with probability 1.3e-4 (Student's t), and one of the six with 8e-4. The seed is fixed: what is good once stays good.
FAR = 5.0


def squared(x: Arrays, part: str) -> float:
    names = [name for name in x if part == "all" or any(of in name for of in (".wq.", ".wk.", ".wv.", ".wo."))]
    return float(sum((x[name] ** 2).sum() for name in names))


def product(x: Arrays, y: Arrays) -> float:
    return float(sum((x[name] * y[name]).sum() for name in x))


def keep(c: float, numbers: np.random.Generator):  # noqa: ANN201
    """The paper's rule: `W` is kept with probability `q = min(1, c W)`, and then counts as `W / q`."""

    def of(w: np.ndarray) -> np.ndarray:
        q = np.minimum(1, c * w)
        return np.where(numbers.random(w.shape) < q, np.maximum(w, 1 / c), 0)

    return of


class Report:
    """Lines, and whether all are good."""

    def __init__(self) -> None:
        self.good = True

    def line(self, name: str, found: float, expected: float, error: float) -> None:
        good = abs(found - expected) <= error
        self.good &= good
        print(f"{'ok  ' if good else 'FAIL'} {name}: {found:.6g}, expected {expected:.6g} +- {error:.2g}")

    def exact(self, name: str, found: float, expected: float) -> None:
        self.line(name, found, expected, ROUNDING * abs(expected))


def main() -> int:
    figures = json.loads((HERE / "figures.json").read_text())
    config, weights = read_weights(HERE / "model.safetensors")
    text, n = (HERE / "heldout.txt").read_bytes(), figures["n"]
    numbers, report = np.random.default_rng(2505_15080), Report()
    budgets = [int(name.removeprefix("c=")) for name in figures["measure"]]
    total: Arrays = {name: np.zeros_like(x) for name, x in weights.items()}
    lengths = []
    added: dict[int, list[list[float]]] = {c: [] for c in budgets}
    sums = {c: {name: np.zeros_like(x) for name, x in weights.items()} for c in budgets}
    growth: dict[int, list[float]] = {c: [] for c in budgets}
    for number, window in enumerate(figures["windows"]):
        network = Network(config, weights)
        tokens = np.frombuffer(text[window["start"] : window["start"] + n + 1], np.uint8).astype(int)
        report.exact(f"window {number}: loss", network.forward(tokens), window["loss"])
        g = network.gradient(lambda w: w)
        for part in ("all", "attention"):
            report.exact(f"window {number}: |g|^2 of {part}", squared(g, part), window["g2"][part])
        lengths.append(squared(g, "all"))
        total = {name: total[name] + g[name] for name in g}
        for c in budgets:
            expected = np.mean([np.minimum(1, c * step[6]).sum((1, 2)) for step in network.steps]) / n
            report.exact(f"window {number}: kept at c = {c}", float(expected), window[f"c={c}"]["expected"])
            draws = []
            for _ in range(DRAWS):
                sampled = network.gradient(keep(c, numbers))
                e = {name: sampled[name] - g[name] for name in g}
                draws.append(squared(e, "all"))
                # |E + e|^2 - |E|^2 - |e|^2 has the mean 0 whatever E was, if the mask adds no bias.
                growth[c].append(2 * product(sums[c], e))
                sums[c] = {name: sums[c][name] + e[name] for name in e}
            added[c].append(draws)
    count = len(lengths)
    between = (sum(lengths) - squared(total, "all") / count) / (count - 1)
    report.exact("variance between the windows", between, figures["between"])
    for c in budgets:
        e2 = np.array(added[c])
        stored = [window[f"c={c}"] for window in figures["windows"]]
        own, theirs = e2.std(1, ddof=1) / math.sqrt(DRAWS), np.array([x["e2_error"] for x in stored])
        mean, reference = e2.mean(), float(np.mean([x["e2"] for x in stored]))
        error = math.sqrt((own**2).sum() + (theirs**2).sum()) / count
        report.line(f"c = {c}: |e|^2 of these windows, by {DRAWS} draws each", mean, reference, FAR * error)
        steps = np.array(growth[c])
        bias = steps.sum() / e2.sum()
        report.line(f"c = {c}: |sum e|^2 / sum |e|^2", 1 + bias, 1.0, FAR * math.sqrt((steps**2).sum()) / e2.sum())
        known, same = figures["measure"][f"c={c}"], reference / figures["between"]
        report.line(f"c = {c}: increase of the variance over these windows", mean / between, same, FAR * error / between)
        print(f"     c = {c}: over the {known['windows']} windows of measure {known['all'][0]:.4f} +- {known['all'][1]:.4f}")
    print("the figures agree" if report.good else "the figures do not agree")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
