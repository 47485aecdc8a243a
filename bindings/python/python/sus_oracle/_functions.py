"""The functions of the package: arrays in, arrays and reports out."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from . import _core
from ._core import InputError
from ._problem import (
    Fixtures,
    Packed,
    Problem,
    ProblemLike,
    expect_layout,
    pack_candidates,
    pack_problem,
    unpack_results,
)
from ._report import Report, raise_unless_passed


def _seed(seed: int | None) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() < 2**64:
        raise InputError(f"metadata key 'seed': expected an integer from 0 to 2^64 - 1, found {seed!r}")
    return seed.__index__()


def _draw(settings: Mapping[str, Any], c: float | None) -> dict[str, Any]:
    return {**settings, "c": c} if c is not None else dict(settings)


def grad(
    problem: ProblemLike,
    *,
    layout: str | None = None,
    c: float | None = None,
    seed: int | None = None,
    dtype: str = "f64",
    mode: str = "exact",
    plain: bool = False,
    **settings: Any,
) -> dict[str, npt.NDArray[Any]]:
    """The forward pass and the gradients of a problem: ``o lse dq dk dv``, ``dbias`` and ``dsink`` if it has them.

    Without ``c``, and unless the problem's own settings name a sampled pass, the pass is dense. With it the weights are
    sampled, and the mask is there as ``mask/row_offsets``, ``mask/columns`` and ``mask/values``.

    Args:
        problem: A dict of arrays with ``q k v do`` (and ``dlse bias sink``), the path of a safetensors file, or what an
            adapter made.
        layout: ``bhsd`` (the default), ``bshd``, ``sbhd`` or ``thd``, of the arrays and of the results. ``lse`` is
            ``[B, H, S]`` in all of them, and ``[H, total]`` in ``thd``.
        c: The expected number of kept entries of a row.
        seed: The seed of the words, 0 if it is not given.
        dtype: ``f64``, ``f32`` or ``dd``, the arithmetic.
        mode: ``exact``, or ``given`` to take ``o`` and ``lse`` from the problem.
        plain: Use the reference in place of the fast kernels.
        settings: Any setting of the file format: ``causal``, ``scale``, ``window``, ``rule``, ``sampler``, ...; the layout
            of the random words is ``words``.

    Raises:
        InputError: One line that says what was expected and what was found.
    """
    packed = pack_problem(problem, layout, _draw(settings, c))
    raw = _core.grad(packed.source, packed.settings, _seed(seed), dtype, mode, plain)
    return unpack_results(raw, packed.layout, packed.hidden)


def _recipe(recipe: Any) -> str | None:
    return None if recipe is None else os.fspath(recipe)


def _only(only: str | Iterable[str] | None) -> dict[str, Any]:
    if only is None:
        return {}
    names = only.split(",") if isinstance(only, str) else list(only)
    return {"gradients": [name.strip() for name in names]}


def _again(packed: Packed, candidates: list[bytes | str], options: Mapping[str, Any]) -> str:
    """The command that computes a verdict again, or the call if something is in memory."""
    given = {key: value for key, value in options.items() if value not in (None, False)}
    if isinstance(packed.source, str) and all(isinstance(one, str) for one in candidates):
        words = ["sus-oracle", "check", packed.source, *map(str, candidates)]
        for key, value in given.items():
            words.append("--" + {"words": "layout"}.get(key, key.replace("_", "-")))
            if value is not True:
                text = (
                    ",".join("inf" if x is None else str(x) for x in value)
                    if isinstance(value, (list, tuple))
                    else str(value)
                )
                words.append(text)
        return shlex.join(words)
    said = "".join(f", {key}={value!r}" for key, value in given.items())
    return f"sus_oracle.check(problem, candidate{said})"


def _judge(*arguments: Any) -> tuple[str, str]:
    """The compiled call by a name that other processes can import."""
    return _core.check(*arguments)


def check(
    problem: ProblemLike,
    candidate: Any,
    *,
    recipe: str | os.PathLike[str] | None = None,
    mode: str = "exact",
    only: str | Iterable[str] | None = None,
    layout: str | None = None,
    c: float | None = None,
    seed: int | None = None,
    law: bool = False,
    repeat: str = "bounds",
    plain: bool = False,
    executor: Any = None,
    **settings: Any,
) -> Report:
    """The verdict on a kernel's results.

    Args:
        problem: As for :func:`grad`.
        candidate: A dict of arrays with ``dq dk dv`` (and ``o lse dbias dsink mask ...``), a path, or a list of these,
            which are runs. One more leading axis means many runs.
        recipe: How the kernel rounds: a built-in name or the path of a TOML file; by the type of the results if not given.
        mode: ``exact``, or ``given`` to judge the gradients by the candidate's own ``o`` and ``lse``.
        only: The results that the kernel computes, such as ``"dq,dk"``.
        layout: The layout of problem and candidate, as for :func:`grad`; by default that of the adapter, else ``bhsd``.
        c: As for :func:`grad`.
        seed: The seed of the mask. Only a sampled pass has one.
        law: Judge many runs by the distribution of the mask alone.
        repeat: ``bounds``, or ``bitwise`` if runs have to agree in every bit.
        plain: Compute the reference in double-double at any size.
        executor: A :class:`concurrent.futures.Executor` that runs the verdict in another thread, process or machine.
        settings: Settings of the problem.
    """
    packed = pack_problem(problem, layout, {**_draw(settings, c), **_only(only)})
    candidates = pack_candidates(candidate, packed)
    if repeat not in ("bounds", "bitwise"):
        raise InputError(f"option 'repeat': expected 'bounds' or 'bitwise', found {repeat!r}")
    options: dict[str, Any] = {"recipe": _recipe(recipe), "mode": None if mode == "exact" else mode}
    options |= {"law": law, "plain": plain}
    options |= {"repeat": None if repeat == "bounds" else repeat, "c": c, "seed": seed, **settings, **_only(only)}
    arguments = (
        packed.source,
        candidates,
        packed.settings,
        _seed(seed),
        _recipe(recipe),
        mode,
        law,
        repeat == "bitwise",
        plain,
        _again(packed, candidates, options),
    )
    found = _judge(*arguments) if executor is None else executor.submit(_judge, *arguments).result()
    return Report(json.loads(found[0]), found[1])


def assert_correct(problem: ProblemLike, candidate: Any, **options: Any) -> Report:
    """:func:`check`, which raises unless the verdict is PASS.

    Raises:
        WrongGradient: FAIL.
        Refused: REFUSED.
        Inconclusive: INCONCLUSIVE.
    """
    __tracebackhide__ = True
    report = check(problem, candidate, **options)
    raise_unless_passed(report)
    return report


def power(
    problem: ProblemLike,
    *,
    bias: float = 0.01,
    variance: float = 0.1,
    recipe: str | os.PathLike[str] = "f32",
    bugs: bool = False,
    layout: str | None = None,
    c: float | None = None,
    seed: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """How many runs of a kernel a statistical verdict needs: what ``sus-oracle power --json`` prints."""
    packed = pack_problem(problem, layout, _draw(settings, c))
    name = _recipe(recipe) or "f32"
    found = _core.power(packed.source, packed.settings, _seed(seed), bias, variance, name, bugs)
    result: dict[str, Any] = json.loads(found[0])
    return result


def _several(
    problems: ProblemLike | Sequence[ProblemLike], layout: str | None, settings: Mapping[str, Any]
) -> tuple[list[bytes | str], str]:
    """One problem or several, and the settings beside them."""
    several: list[Any] = list(problems) if isinstance(problems, (list, tuple)) else [problems]
    if not several:
        raise InputError("problem: expected at least one, found an empty list")
    packed = [pack_problem(problem, layout, settings) for problem in several]
    return [one.source for one in packed], packed[0].settings


def choose_c(
    problems: ProblemLike | Sequence[ProblemLike],
    *,
    target: float,
    of: str = "max",
    relative_to: str = "sequences",
    rule: str = "paper",
    sampler: str = "bernoulli",
    plain: bool = False,
    layout: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The smallest ``c`` whose relative variance increase meets a target: what ``sus-oracle choose-c --json`` prints."""
    sources, beside = _several(problems, layout, settings)
    found = _core.choose_c(sources, beside, target, of, relative_to, rule, sampler, plain)
    result: dict[str, Any] = json.loads(found[0])
    return result


def analyze(
    problems: ProblemLike | Sequence[ProblemLike],
    *,
    c: float | Sequence[float] | None = None,
    rule: str | None = None,
    sampler: str | None = None,
    plain: bool = False,
    layout: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The exact variance that sampling adds, and the entries kept: what ``sus-oracle analyze --json`` prints."""
    sources, beside = _several(problems, layout, settings)
    several: list[Any] = list(c) if isinstance(c, (list, tuple)) else [c]
    budgets = None if c is None else [float(x) for x in several]
    found = _core.analyze(sources, beside, budgets, rule, sampler, plain)
    result: dict[str, Any] = json.loads(found[0])
    return result


def fixtures(tier: str = "smoke") -> Fixtures:
    """The cases of a tier (``smoke``, ``full`` or ``stress``) by name, each with its answers. They are made when used."""
    return Fixtures(tier)


__all__ = [
    "Problem",
    "analyze",
    "assert_correct",
    "check",
    "choose_c",
    "expect_layout",
    "fixtures",
    "grad",
    "power",
]
