"""What the tests share: problems, an implementation in NumPy that shares no code with the package, and the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]

#: Of each layout: the axes of [B, H, S, D] that its tensors have, in their order.
FROM_BHSD = {"bhsd": (0, 1, 2, 3), "bshd": (0, 2, 1, 3), "sbhd": (2, 0, 1, 3)}


def numbers(shape: tuple[int, ...], seed: int, dtype: Any = np.float32) -> np.ndarray:
    """Normal numbers, exact in bfloat16 and float16."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return (np.round(np.clip(x, -3, 3) * 32) / 32).astype(dtype)


def make_problem(
    b: int = 2, hq: int = 4, hk: int = 2, nq: int = 9, nk: int = 11, d: int = 8, e: int = 6, seed: int = 0
) -> dict[str, np.ndarray]:
    """A problem in [B, H, S, D], of which no two axes that may be confused are equal."""
    return {
        "q": numbers((b, hq, nq, d), seed),
        "k": numbers((b, hk, nk, d), seed + 1),
        "v": numbers((b, hk, nk, e), seed + 2),
        "do": numbers((b, hq, nq, e), seed + 3),
    }


def visible(
    nq: int, nk: int, causal: str | None = None, window: tuple[int | None, int | None] = (None, None)
) -> np.ndarray:
    """The pairs that a query sees: the inequalities, written out."""
    i, j = np.arange(nq)[:, None], np.arange(nk)[None, :]
    diagonal = i + (nk - nq if causal == "bottom-right" else 0)
    seen = np.ones((nq, nk), bool)
    if causal is not None:
        seen &= j <= diagonal
    left, right = window
    if left is not None:
        seen &= j >= diagonal - left
    if right is not None:
        seen &= j <= diagonal + right
    return seen


def reference(
    problem: dict[str, np.ndarray], seen: np.ndarray | None = None, scale: float | None = None, bias: Any = 0.0
) -> dict[str, np.ndarray]:
    """Attention and its gradients in float64, from the formulas, in [B, H, S, D]."""
    q, k, v, g = (np.asarray(problem[name], np.float64) for name in ("q", "k", "v", "do"))
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    s = scale * q @ k.swapaxes(-1, -2) + bias
    if seen is not None:
        s = np.where(seen, s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    p = np.exp(s - top)
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + top)[..., 0]
    w = p / np.where(total == 0, 1, total)
    o = w @ v
    ds = w * (g @ v.swapaxes(-1, -2) - (g * o).sum(-1, keepdims=True))

    def per_key_head(x: np.ndarray) -> np.ndarray:
        b, h, n, d = x.shape
        return x.reshape(b, h // group, group, n, d).sum(2)

    dk, dv = per_key_head(scale * ds.swapaxes(-1, -2) @ q), per_key_head(w.swapaxes(-1, -2) @ g)
    return {"o": o, "lse": lse, "dq": scale * ds @ k, "dk": dk, "dv": dv}


def in_layout(tensors: dict[str, np.ndarray], layout: str) -> dict[str, np.ndarray]:
    """Views of tensors in [B, H, S, D] under another layout; ``lse`` stays."""
    return {name: np.transpose(x, FROM_BHSD[layout]) if x.ndim == 4 else x for name, x in tensors.items()}


def same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """Two sets of results are equal in every bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert np.ascontiguousarray(a[name]).tobytes() == np.ascontiguousarray(b[name]).tobytes(), name


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command ``sus-oracle``; ``SUS_ORACLE_COMMAND`` says where it is."""
    path = os.environ.get("SUS_ORACLE_COMMAND", str(ROOT / "target/release/sus-oracle"))
    if not Path(path).exists():
        pytest.skip("the command is not built: cargo build --release")

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *map(str, words)], capture_output=True, text=True, check=False)

    return run
