"""SUS attention for JAX: a dense forward pass, and a backward pass that samples the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from . import _core
from ._arrays import Array, array_of, from_bytes, to_bytes
from ._attention import sampled_settings
from ._core import InputError

__all__ = ["sus_attention"]


def _pass(settings: str, double: bool, q: Any, k: Any, v: Any) -> _core.SampledForward:
    arrays = {"q": array_of("q", q), "k": array_of("k", k), "v": array_of("v", v)}
    shape = (*np.shape(q)[:-1], np.shape(v)[-1])
    arrays["do"] = Array("F32", np.zeros(shape, np.float32))
    return _core.SampledForward(to_bytes(arrays, None), settings, not double)


def _host_forward(settings: str, dtype: Any, q: Any, k: Any, v: Any) -> npt.NDArray[Any]:
    passed = _pass(settings, np.dtype(dtype) == np.float64, q, k, v)
    return from_bytes(passed.results())[0]["o"].data.astype(dtype)


def _host_backward(settings: str, dtype: Any, q: Any, k: Any, v: Any, do: Any) -> tuple[npt.NDArray[Any], ...]:
    """The mask is a function of the seed, so it is drawn again, and no state crosses from pass to pass."""
    passed = _pass(settings, np.dtype(dtype) == np.float64, q, k, v)
    arrays, _ = from_bytes(passed.backward(to_bytes({"do": array_of("do", do)}, None)))
    return tuple(arrays[name].data.astype(x.dtype) for name, x in (("dq", q), ("dk", k), ("dv", v)))


#: Its stub has no types.
_shape: Any = jax.ShapeDtypeStruct


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(settings: str, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    shape = _shape((*q.shape[:-1], v.shape[-1]), q.dtype)
    host = partial(_host_forward, settings, q.dtype)
    o: jax.Array = jax.pure_callback(host, shape, q, k, v, vmap_method="sequential")
    return o


def _forward(settings: str, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _attention(settings, q, k, v), (q, k, v)


def _backward(settings: str, saved: tuple[jax.Array, ...], do: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v = saved
    host = partial(_host_backward, settings, q.dtype)
    shapes = tuple(_shape(x.shape, x.dtype) for x in saved)
    found: tuple[jax.Array, ...] = jax.pure_callback(host, shapes, q, k, v, do, vmap_method="sequential")
    return found


_attention.defvjp(_forward, _backward)


def sus_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    c: float,
    causal: bool = False,
    scale: float | None = None,
    seed: int = 0,
    stream: int = 0,
    rule: str = "paper",
    sampler: str = "bernoulli",
    layout: str = "bhsd",
) -> jax.Array:
    """Attention whose backward pass keeps a weight ``W`` only with probability ``min(1, c W)``, and is unbiased.

    The arguments are those of :func:`sus_oracle.torch.sus_attention`, of which ``c`` and all that follow it are Python
    values, known when a function is traced. It runs on the host, by ``jax.pure_callback``, also under ``jit`` and ``vmap``.
    """
    q, k, v = (jnp.asarray(x) for x in (q, k, v))
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4:
            raise InputError(f"tensor '{name}': expected 4 axes, found shape {list(x.shape)}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError(f"tensor '{name}': expected a floating-point type, found {x.dtype}")
    if layout not in ("bhsd", "bshd"):
        raise InputError(f"option 'layout': expected bhsd or bshd, found {layout!r}")
    if layout == "bshd":
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    settings = sampled_settings(c, causal, scale, seed, stream, rule, sampler)
    o: jax.Array = _attention(settings, q, k, v)
    return jnp.swapaxes(o, 1, 2) if layout == "bshd" else o
