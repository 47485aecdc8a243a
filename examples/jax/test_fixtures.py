"""Fixtures in a JAX test suite: how to hold a kernel against them.

    python -m pytest examples/jax          or          python examples/jax/test_fixtures.py OUT

`dense` and `sus` below stand for your kernels; replace them. As they are, `dense` is differentiated by JAX, and `sus` is a function
with the sampled backward pass of its own, its masks from `jax.random.bits` (layout jax-threefry) or from Philox (coord4).
Needs jax, numpy, safetensors.
"""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "fixtures" / "smoke"
sys.path.insert(0, str(HERE.parent / "python"))
import philox  # noqa: E402

jax.config.update("jax_enable_x64", True)  # without it JAX drops the high half of a seed

DENSE = ["primes", "causal_square", "group_3_ramps", "scale", "tiny_cotangent"]
MASKED = ["attn_mask", "block_mask", "indices", "dropout", "alibi"]
SUS = ["sus_bernoulli_paper", "sus_heads", "sus_jax_threefry", "sus_jax_threefry_stream"]


def load(name):
    path = FIXTURES / f"{name}.safetensors"
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["sus_oracle"]), load_file(path)


def words(settings, shape):
    if settings["layout"] == "coord4":
        return philox.words(settings["seed"], settings["stream"], *shape)
    key = jax.random.key(np.uint64(settings["seed"]))
    if settings["stream"] != 0:
        key = jax.random.fold_in(key, settings["stream"])
    return jax.random.bits(key, shape, jnp.uint32)


def weights(settings, q, k):
    """The softmax, with the causal mask at the bottom right."""
    scores = settings.get("scale", q.shape[-1] ** -0.5) * q @ k.swapaxes(-1, -2)
    if settings.get("causal", False):
        queries, keys = scores.shape[-2:]
        scores = jnp.where(jnp.tril(jnp.ones((queries, keys), bool), keys - queries), scores, -jnp.inf)
    return jax.nn.softmax(scores, -1)


def grouped(q, *tensors):
    """Key heads repeated for the query heads that read them; their gradients are then summed over the group."""
    return (jnp.repeat(x, q.shape[1] // x.shape[1], 1) for x in tensors)


def dense(settings, q, k, v):
    k, v = grouped(q, k, v)
    return weights(settings, q, k) @ v


def masked(name):
    """The kernel of a case with a mask, lists, dropout or slopes: what JAX differentiates is the definition."""
    settings, case = load(name)

    def kernel(_, q, k, v):
        k, v = grouped(q, k, v)
        queries, keys = q.shape[2], k.shape[2]
        below = jnp.arange(queries)[:, None] + keys - queries - jnp.arange(keys)
        seen = below >= 0 if settings.get("causal", False) else jnp.ones((queries, keys), bool)
        scores = q.shape[-1] ** -0.5 * q @ k.swapaxes(-1, -2)
        if "attn_mask" in case:
            seen = seen & (case["attn_mask"] != 0)
        if "block_mask" in case:
            m, n = settings["block"]
            seen = seen & (case["block_mask"].repeat(m, 2).repeat(n, 3)[:, :, :queries, :keys] != 0)
        if "indices" in case:
            listed = (case["indices"][..., None] == np.arange(keys)).any(-2)
            seen = seen & listed.repeat(q.shape[1] // listed.shape[1], 1)
        if "alibi_slopes" in case:
            scores = scores - case["alibi_slopes"].reshape(-1, q.shape[1], 1, 1).astype(scores.dtype) * abs(below)
        # A row that sees no key: its weights are 0, and nothing of it is differentiated.
        some = seen.any(-1, keepdims=True)
        w = jnp.where(seen, jax.nn.softmax(jnp.where(seen | ~some, scores, -jnp.inf), -1), 0)
        if "dropout_mask" in case:
            w = w * (case["dropout_mask"] != 0) / (1 - settings["dropout_p"])
        return w @ v

    return kernel


def sus(settings, q, k, v):
    k, v = grouped(q, k, v)
    return sampled(json.dumps(settings), q, k, v)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def sampled(settings, q, k, v):
    return weights(json.loads(settings), q, k) @ v


def sampled_forward(settings, q, k, v):
    w = weights(json.loads(settings), q, k)
    o = w @ v
    return o, (q, k, v, w, o)


def sampled_backward(settings, saved, g):
    """W~ = m max(W, 1/c) in place of W; o and delta stay exact."""
    q, k, v, w, o = saved
    s = json.loads(settings)
    cw = s["c"] * w
    x = jnp.asarray(words(s, w.shape)).astype(jnp.float64)
    kept = (cw >= 1) | (x < cw.astype(jnp.float64) * 2.0**32)
    upweighted = jnp.where(kept, jnp.maximum(w, 1 / s["c"]), 0)
    t = g @ v.swapaxes(-1, -2) - (g * o).sum(-1, keepdims=True)
    ds = s.get("scale", q.shape[-1] ** -0.5) * upweighted * t
    return ds @ k, ds.swapaxes(-1, -2) @ q, upweighted.swapaxes(-1, -2) @ g


sampled.defvjp(sampled_forward, sampled_backward)


def gradients(name, kernel, dtype):
    settings, case = load(name)
    q, k, v, g = (jnp.asarray(case[n], dtype) for n in ("q", "k", "v", "do"))
    with jax.default_matmul_precision("highest"):
        o, pull = jax.vjp(lambda *x: kernel(settings, *x), q, k, v)
        dq, dk, dv = pull(g)
    return case, {n: np.asarray(x) for n, x in {"o": o, "dq": dq, "dk": dk, "dv": dv}.items()}


def wrong(name, kernel, dtype, factor):
    """The results outside of the stored bound of an f32 kernel, times a factor."""
    case, results = gradients(name, kernel, dtype)
    bad = []
    for tensor, found in results.items():
        error = np.abs(found.astype(np.float64) - case[f"expected/{tensor}"])
        if not (error <= factor * case[f"bound/f32/{tensor}"].astype(np.float64)).all():
            bad.append((name, tensor, error.max()))
    return bad


def test_float32_is_within_the_bounds():
    assert [x for name in DENSE for x in wrong(name, dense, jnp.float32, 1.0)] == []
    assert [x for name in MASKED for x in wrong(name, masked(name), jnp.float32, 1.0)] == []
    assert [x for name in SUS for x in wrong(name, sus, jnp.float32, 1.0)] == []


def test_float64_is_within_the_bounds_of_its_roundoff():
    # 2^-29 is the ratio of the roundoffs; 2 is for the terms of higher order.
    assert [x for name in DENSE for x in wrong(name, dense, jnp.float64, 2.0**-28)] == []
    assert [x for name in MASKED for x in wrong(name, masked(name), jnp.float64, 2.0**-28)] == []
    assert [x for name in SUS for x in wrong(name, sus, jnp.float64, 2.0**-28)] == []


def test_a_wrong_scale_is_outside():
    def no_scale(settings, q, k, v):
        return dense(settings | {"scale": 1.0}, q, k, v)

    assert wrong("primes", no_scale, jnp.float64, 1.0)


def write_candidates(out):
    """For `sus-oracle check FIXTURE CANDIDATE --recipe f64`."""
    out.mkdir(parents=True, exist_ok=True)
    for names, kernel in ((DENSE, dense), (SUS, sus)):
        for name in names:
            _, results = gradients(name, kernel, jnp.float64)
            save_file({n: np.ascontiguousarray(x) for n, x in results.items()}, out / f"{name}.safetensors")


if __name__ == "__main__":
    test_float32_is_within_the_bounds()
    test_float64_is_within_the_bounds_of_its_roundoff()
    test_a_wrong_scale_is_outside()
    write_candidates(Path(sys.argv[1]))
    print(f"JAX {jax.__version__}: {len(DENSE)} dense and {len(SUS)} SUS cases computed and written to {sys.argv[1]}")
