"""A differentiable attention function, run under cotangents of several strides and judged each time.

A file holds numbers, no strides. A kernel that reads its cotangent as if it were contiguous is right in every file, and
wrong in training, where the cotangent of a sum is expanded and that of a transposed output is strided.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import library_of, one_line
from ._core import InputError
from ._functions import check
from ._problem import AXES, Problem, layout_of
from ._report import Report

#: The outcomes from the worst to the best.
WORST = ("FAIL", "REFUSED", "INCONCLUSIVE", "PASS")

#: Inputs that a function differentiates, and the names of their gradients.
GRADIENTS = {"q": "dq", "k": "dk", "v": "dv", "bias": "dbias", "sink": "dsink"}


class Run(NamedTuple):
    """One run of a function."""

    #: What the cotangent and the memory were like.
    name: str
    report: Report


class FunctionReport:
    """The verdicts on all runs of a function. It is true if every one is PASS."""

    runs: list[Run]

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    @property
    def outcome(self) -> str:
        """The worst outcome of a run."""
        return min((run.report.outcome for run in self.runs), key=WORST.index)

    @property
    def worst(self) -> Run:
        """The first run with the worst outcome."""
        return next(run for run in self.runs if run.report.outcome == self.outcome)

    @property
    def reports(self) -> dict[str, Report]:
        """The reports by the names of the runs."""
        return {run.name: run.report for run in self.runs}

    @property
    def json(self) -> dict[str, Any]:
        """The verdicts of all runs."""
        runs = [{"run": run.name, **run.report.json} for run in self.runs]
        return {"spec": "sus-oracle-function/1", "verdict": self.outcome, "runs": runs}

    def __bool__(self) -> bool:
        return self.outcome == "PASS"

    def __str__(self) -> str:
        lines = [f"{run.report.outcome:<12} {run.name}" for run in self.runs]
        if not self:
            lines += ["", f"the run '{self.worst.name}':", str(self.worst.report).rstrip()]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        return f"<FunctionReport {self.outcome} of {len(self.runs)} runs>"


def check_function(
    fn: Callable[..., Any],
    inputs: Mapping[str, Any] | Sequence[Any],
    *,
    do: Any = None,
    layout: str | None = None,
    seed_of_do: int = 0,
    executor: Any = None,
    **options: Any,
) -> FunctionReport:
    """Runs ``fn`` and its derivative on several cotangents, each twice, and judges every run.

    Args:
        fn: Called as ``fn(q, k, v)``, with ``bias=`` and ``sink=`` if the inputs have them. It returns ``o``, or a tuple that
            begins with ``o``; if the second is a tensor of numbers with one axis fewer, it is judged as ``lse``.
        inputs: A dict of ``q``, ``k``, ``v`` (and ``bias``, ``sink``), the three in a sequence, or what an adapter made. All
            torch tensors, or all JAX arrays.
        do: The cotangent of ``o``; normal numbers that bfloat16 and float16 have, if it is not given.
        layout: As for :func:`sus_oracle.check`.
        seed_of_do: The seed of these numbers.
        executor: A :class:`concurrent.futures.Executor` that judges the runs beside each other.
        options: Options and settings of :func:`sus_oracle.check` that describe the problem; ``fn`` does not see them.

    In PyTorch the cotangents are contiguous, a transposed view, every second element of a larger tensor, and expanded
    along each of batch, heads, queries and features and along all of them, as the derivative of a sum is. The second run of each
    finds memory that is filled with NaN where PyTorch can do that. In JAX, whose arrays have no strides, the cotangents are
    the given one and broadcast ones, with and without ``jit``.
    """
    layout = layout_of(inputs if isinstance(inputs, Problem) else {}, layout)
    settings: dict[str, Any] = dict(inputs.settings) if isinstance(inputs, Problem) else {}
    tensors = _named(inputs)
    if do is None:
        do = tensors.pop("do", None)
    else:
        tensors.pop("do", None)
    libraries = {library_of(x) for name, x in tensors.items() if name in GRADIENTS}
    if libraries == {"torch"}:
        runs = _torch_runs(fn, tensors, do, layout, seed_of_do)
    elif libraries == {"jax"}:
        runs = _jax_runs(fn, tensors, do, layout, seed_of_do)
    else:
        found = ", ".join(sorted(libraries))
        raise InputError(f"check_function: expected torch tensors or JAX arrays alone, found arrays of {found}")
    arguments = [
        (name, Problem({**tensors, "do": cotangent}, settings, layout), candidate)
        for name, cotangent, candidate in runs
    ]

    def judged(problem: Problem, candidate: dict[str, Any]) -> Report:
        return check(problem, candidate, **options)

    if executor is None:
        return FunctionReport([Run(name, judged(problem, candidate)) for name, problem, candidate in arguments])
    return FunctionReport(_judged_by(executor, arguments, options))


def _judged_by(
    executor: Any, arguments: list[tuple[str, Problem, dict[str, Any]]], options: Mapping[str, Any]
) -> list[Run]:
    # Packing is short; the threads wait for the executor.
    with ThreadPoolExecutor(max_workers=min(16, len(arguments))) as threads:
        futures = [
            (name, threads.submit(check, problem, candidate, executor=executor, **options))
            for name, problem, candidate in arguments
        ]
        return [Run(name, future.result()) for name, future in futures]


def _named(inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        tensors = {name: value for name, value in inputs.items() if value is not None}
    elif isinstance(inputs, (list, tuple)) and len(inputs) in (3, 4):
        tensors = dict(zip(("q", "k", "v", "do"), inputs))
    else:
        raise InputError("inputs: expected a dict with q, k, v, or a sequence of the three")
    missing = [name for name in ("q", "k", "v") if name not in tensors]
    if missing:
        raise InputError(f"inputs: expected a tensor '{missing[0]}', found none")
    return tensors


def _numbers(shape: Sequence[int], seed: int) -> npt.NDArray[np.float32]:
    """Normal numbers with 8 significant bits and at most 6 binary digits after the point: exact in bfloat16 and float16."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(tuple(shape))
    return (np.clip(np.round(x * 32), -127, 127) / 32).astype(np.float32)


def _results(outputs: Any) -> tuple[Any, Any]:
    """``o``, and ``lse`` if the function returns it."""
    if not isinstance(outputs, (tuple, list)):
        return outputs, None
    if not outputs:
        raise InputError("check_function: expected o from the function, found an empty tuple")
    o = outputs[0]
    second = outputs[1] if len(outputs) > 1 else None
    rows = second is not None and len(np.shape(second)) == len(np.shape(o)) - 1
    return o, second if rows else None


def _torch_runs(
    fn: Callable[..., Any], tensors: dict[str, Any], do: Any, layout: str, seed: int
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    import torch

    leaves = {name: value.detach() for name, value in tensors.items() if name in GRADIENTS}

    def forward() -> tuple[dict[str, Any], Any, Any]:
        inputs = {
            name: value.clone(memory_format=torch.preserve_format).requires_grad_() for name, value in leaves.items()
        }
        others = {name: value for name, value in inputs.items() if name not in ("q", "k", "v")}
        o, lse = _results(fn(inputs["q"], inputs["k"], inputs["v"], **others))
        return inputs, o, lse

    _, o, _ = forward()
    if not isinstance(o, torch.Tensor) or not o.requires_grad:
        raise InputError("check_function: expected a differentiable o from the function, found none")
    like: dict[str, Any] = {"dtype": o.dtype, "device": o.device}
    if do is None:
        do = torch.from_numpy(_numbers(o.shape, seed))
    do = torch.as_tensor(do).detach().to(**like)
    for name, cotangent in _torch_cotangents(do, layout):
        for poisoned in (False, True):
            with _poisoned(torch) if poisoned else contextlib.nullcontext():
                inputs, o, lse = forward()
                found = torch.autograd.grad(o, list(inputs.values()), cotangent, allow_unused=True)
            candidate = {GRADIENTS[of]: gradient for of, gradient in zip(inputs, found) if gradient is not None}
            candidate = {key: value.detach().clone() for key, value in candidate.items()}
            candidate["o"] = o.detach().clone()
            if lse is not None:
                candidate["lse"] = lse.detach().clone()
            yield f"{name}{', again, memory filled with NaN' if poisoned else ''}", cotangent, candidate


def _torch_cotangents(do: Any, layout: str) -> Iterator[tuple[str, Any]]:
    """The same numbers under other strides, then numbers that repeat along axes of stride 0."""
    import torch

    yield "contiguous", do.contiguous()
    if do.ndim >= 2:
        order = list(range(do.ndim))
        order[-3:] = [order[-2], order[-3], order[-1]] if do.ndim >= 3 else order[-3:]
        yield "transposed heads and sequence", do.permute(order).contiguous().permute(order)
        yield "transposed sequence and features", do.transpose(-1, -2).contiguous().transpose(-1, -2)
    wide = torch.full((*do.shape[:-1], 2 * do.shape[-1]), float("nan"), dtype=do.dtype, device=do.device)
    wide[..., ::2] = do
    yield "every second element of a row", wide[..., ::2]
    if do.numel() == 0:
        return
    names = ("batch", "heads", "queries", "features")
    if layout == "thd":
        axes = ["queries", "heads", "features"]
    else:
        axes = [names[AXES[layout].index(axis)] for axis in range(4)]
    for axis, name in enumerate(axes):
        if do.shape[axis] > 1:
            yield f"expanded along {name}", do.narrow(axis, 0, 1).expand(do.shape)
    yield "expanded, as of a sum", do.new_ones(()).expand(do.shape)


@contextlib.contextmanager
def _poisoned(torch: Any) -> Iterator[None]:
    """New tensors of PyTorch hold NaN in place of what the memory had. Nothing else of its mode is used."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def _jax_runs(
    fn: Callable[..., Any], tensors: dict[str, Any], do: Any, layout: str, seed: int
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    import jax
    import jax.numpy as jnp

    names = [name for name in tensors if name in GRADIENTS]
    values = [jnp.asarray(tensors[name]) for name in names]

    def call(*arguments: Any) -> tuple[Any, Any]:
        inputs = dict(zip(names, arguments))
        others = {name: value for name, value in inputs.items() if name not in ("q", "k", "v")}
        return _results(fn(inputs["q"], inputs["k"], inputs["v"], **others))

    def passes(cotangent: Any, *arguments: Any) -> tuple[Any, Any, Any]:
        o, pullback, lse = jax.vjp(call, *arguments, has_aux=True)
        return o, lse, pullback(cotangent)

    try:
        shape = jax.eval_shape(lambda *arguments: call(*arguments)[0], *values)
    except Exception as error:
        raise InputError(f"check_function: the function failed ({one_line(error)})") from error
    if do is None:
        do = jnp.asarray(_numbers(shape.shape, seed))
    do = jnp.asarray(do).astype(shape.dtype)
    cotangents = [("given", do)]
    if do.size:
        cotangents.append(("ones, as of a sum", jnp.ones_like(do)))
        cotangents += [
            (f"broadcast along axis {axis}", jnp.broadcast_to(jnp.take(do, jnp.array([0]), axis), do.shape))
            for axis in range(do.ndim)
            if do.shape[axis] > 1
        ]
    for name, cotangent in cotangents:
        for compiled in (False, True):
            o, lse, found = (jax.jit(passes) if compiled else passes)(cotangent, *values)
            candidate = {GRADIENTS[of]: gradient for of, gradient in zip(names, found)}
            candidate["o"] = o
            if lse is not None:
                candidate["lse"] = lse
            yield f"{name}{', compiled' if compiled else ''}", cotangent, candidate
