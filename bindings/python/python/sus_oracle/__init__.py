"""The oracle for attention backward passes, dense and sparse-stochastic, on the arrays of NumPy, PyTorch and JAX.

>>> import numpy as np, sus_oracle
>>> rng = np.random.default_rng(0)
>>> q, k, v, do = (rng.standard_normal((1, 2, 8, 4)).astype(np.float32) for _ in range(4))
>>> problem = {"q": q, "k": k, "v": v, "do": do}
>>> truth = sus_oracle.grad(problem, causal=True)
>>> candidate = {name: truth[name].astype(np.float32) for name in ("dq", "dk", "dv")}
>>> sus_oracle.check(problem, candidate, causal=True).outcome
'PASS'
"""

from typing import Any

from . import adapters
from ._check_function import FunctionReport, check_function
from ._core import InputError
from ._functions import analyze, assert_correct, check, choose_c, fixtures, grad, power
from ._problem import Fixture, Fixtures, Problem
from ._report import Inconclusive, Refused, Report, WrongGradient

__all__ = [
    "Fixture",
    "Fixtures",
    "FunctionReport",
    "Inconclusive",
    "InputError",
    "Problem",
    "Refused",
    "Report",
    "WrongGradient",
    "adapters",
    "analyze",
    "assert_correct",
    "check",
    "check_function",
    "choose_c",
    "fixtures",
    "grad",
    "power",
]


def __getattr__(name: str) -> Any:
    """Imports ``sus_oracle.torch`` and ``sus_oracle.jax``, and with them PyTorch and JAX, when they are used."""
    if name in ("torch", "jax"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("sus-oracle")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
