"""Checks of the reference itself that need no other program: the stored PyTorch results, and the laws of SUS.

    python check_reference.py
"""

import random
from pathlib import Path

import numpy as np
from mpmath import mpf

import sus_files
import sus_reference
from sus_reference import gradients, multiplier, probability, systematic

CASES = Path(__file__).parent.parent / "torch" / "cases"


def check_torch_cases():
    """Every stored result of automatic differentiation, to 1e-13 of its norm and what cancellation costs float64."""
    paths = sorted(CASES.glob("*.safetensors"))
    assert paths, "no cases found"
    for path in paths:
        options, tensors, _ = sus_files.read(path)
        out, noise = gradients(options, tensors)
        expected = {name[len("expected/") :]: a for name, a in tensors.items() if name.startswith("expected/")}
        assert set(expected) == set(out), path.name
        for name, want in expected.items():
            got = out[name].astype(float)
            finite = np.isfinite(want)
            assert np.array_equal(got[~finite], want[~finite]), (path.name, name)
            error = np.linalg.norm((got - np.where(finite, want, 0))[finite])
            allowed = 1e-13 * np.linalg.norm(want[finite]) + 1e-15 * np.linalg.norm(noise[name])
            assert error <= allowed, (path.name, name, error, allowed)
    return f"{len(paths)} PyTorch cases"


def random_rows(draw, count):
    for _ in range(count):
        n = draw.randint(1, 12)
        w = [mpf(draw.expovariate(1)) ** draw.choice([1, 4]) for _ in range(n)]
        total = sum(w) * (1 + draw.choice([0, draw.random()]))  # a sink may take a share
        yield [a / total for a in w], mpf(draw.choice([0.3, 1, 2, 3.7, 8, 11, 40]))


def check_budgets():
    """calibrated spends min(c, number of keys) exactly, paper never more; systematic keeps floor or ceil of it."""
    draw = random.Random(1)
    for w, c in random_rows(draw, 400):
        for rule in ("paper", "calibrated"):
            q = [probability(multiplier(rule, c, w), a) for a in w]
            budget = sum(q)
            assert budget <= c * (1 + mpf(10) ** -50)
            if rule == "calibrated":
                assert abs(budget - min(c, len(w))) < mpf(10) ** -50
            kept = sum(systematic(q, mpf(draw.random())))
            assert abs(kept - budget) < 1 + mpf(10) ** -50
    return "budgets of 400 rows"


def check_systematic_mean():
    """Over u on a fine grid every entry is kept with frequency q, to the grid's spacing."""
    draw, grid = random.Random(2), 512
    for w, c in random_rows(draw, 12):
        q = [probability(multiplier("paper", c, w), a) for a in w]
        rows = [systematic(q, mpf(2 * step + 1) / (2 * grid)) for step in range(grid)]
        for j, p in enumerate(q):
            assert abs(sum(row[j] for row in rows) / mpf(grid) - p) <= mpf(2) / grid
    return "systematic frequencies of 12 rows"


def check_infinite_c():
    """c = inf, by either rule and sampler, is the dense backward, and its mask holds every visible key."""
    draw = np.random.default_rng(3)
    shapes = {"q": (1, 2, 4, 3), "k": (1, 1, 5, 3), "v": (1, 1, 5, 2), "do": (1, 2, 4, 2)}
    x = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    dense, _ = gradients({"causal": True}, x)
    for rule in ("paper", "calibrated"):
        for sampler in ("bernoulli", "systematic"):
            sus, _ = gradients({"causal": True, "pass": "sus", "c": "inf", "rule": rule, "sampler": sampler}, x)
            assert all(np.array_equal(dense[name], sus[name]) for name in dense)
            assert sus["mask/row_offsets"].tolist() == [0, 2, 5, 9, 14, 16, 19, 23, 28]
    return "c = inf"


def check_unbiased():
    """The mean over many seeds is the dense gradient, within six standard errors of every element."""
    draw, seeds = np.random.default_rng(4), 400
    shapes = {"q": (1, 1, 2, 2), "k": (1, 1, 5, 2), "v": (1, 1, 5, 2), "do": (1, 1, 2, 2)}
    x = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    dense, _ = gradients({}, x)
    for sampler in ("bernoulli", "systematic"):
        for rule in ("paper", "calibrated"):
            options = {"pass": "sus", "c": 1.7, "sampler": sampler, "rule": rule}
            runs = [gradients(options | {"seed": seed}, x)[0] for seed in range(seeds)]
            for name in ("dq", "dk", "dv"):
                stack = np.array([run[name].astype(float) for run in runs])
                error = np.abs(stack.mean(0) - dense[name].astype(float))
                assert np.all(error <= 6 * stack.std(0) / seeds**0.5 + 1e-12), (sampler, rule, name)
    return f"means over {seeds} seeds"


if __name__ == "__main__":
    assert sus_reference.mp.dps >= 50
    for check in (check_torch_cases, check_budgets, check_systematic_mean, check_infinite_c, check_unbiased):
        print(check(), flush=True)
