"""The conventions of each library, against pairs that are written out and against the libraries that are there."""

import inspect

import numpy as np
import pytest
import sus_oracle as so
from conftest import in_layout, make_problem, numbers, reference, same_bits, visible
from sus_oracle import adapters


def qkv(layout="bhsd", **sizes):
    """The three inputs and the cotangent of a problem in a layout, and the problem."""
    problem = make_problem(**sizes)
    there = in_layout(problem, layout)
    return [there[name] for name in ("q", "k", "v")], there["do"], problem


def expect(adapted, problem, seen, layout, **options):
    """The adapted problem has the gradients of the pairs ``seen``: the independent implementation passes, at f64."""
    right = reference(problem, seen, **options)
    assert so.check(adapted, in_layout(right, layout), recipe="f64").outcome == "PASS"
    # One pair fewer or more is another problem.
    if seen is not None and seen.any():
        other = np.array(np.broadcast_to(seen, (*problem["q"].shape[:3], problem["k"].shape[2])))
        other[0, 0, 0, np.argmin(other[0, 0, 0]) if not other[0, 0, 0].all() else -1] ^= True
        wrong = reference(problem, other, **options)
        assert so.check(adapted, in_layout(wrong, layout), recipe="f64").outcome == "FAIL"


@pytest.mark.parametrize(
    ("arguments", "causal", "window"),
    [
        ({}, None, (None, None)),
        ({"causal": True}, "bottom-right", (None, None)),
        ({"window_size": (3, -1)}, "bottom-right", (3, None)),
        ({"window_size": (-1, 2)}, "bottom-right", (None, 2)),
        ({"window_size": (0, 0)}, "bottom-right", (0, 0)),
        ({"causal": True, "window_size": (2, 5)}, "bottom-right", (2, 0)),
        ({"softmax_scale": 0.5}, None, (None, None)),
    ],
)
def test_flash_attention_aligns_bottom_right_and_minus_one_is_no_limit(arguments, causal, window):
    (q, k, v), do, problem = qkv("bshd")
    seen = visible(9, 11, "bottom-right" if causal else None, window)
    if causal and "causal" not in arguments:
        # A window alone does not hide the keys after the diagonal.
        i, j = np.arange(9)[:, None] + 2, np.arange(11)[None, :]
        left, right = window
        seen = (j >= i - left if left is not None else True) & (j <= i + right if right is not None else True)
    adapted = adapters.flash_attn(q, k, v, do=do, **arguments)
    expect(adapted, problem, seen, "bshd", scale=arguments.get("softmax_scale"))


def test_flash_attention_takes_its_arguments_in_their_order():
    (q, k, v), do, problem = qkv("bshd")
    adapted = adapters.flash_attn(q, k, v, 0.0, 0.25, True, (4, -1), 20.0, None, True, False, do=do)
    assert adapted.settings == {"scale": 0.25, "causal": True, "window": [4, None], "softcap": 20.0}
    same_bits(so.grad(adapted), so.grad(in_layout(problem, "bshd"), layout="bshd", **adapted.settings))


def test_packed_flash_attention_is_thd():
    problem = make_problem(b=1, nq=10, nk=12)
    q, k, v, do = (problem[name][0].swapaxes(0, 1) for name in ("q", "k", "v", "do"))
    cu_q, cu_k = np.array([0, 3, 10], np.int32), np.array([0, 5, 12], np.int32)
    adapted = adapters.flash_attn_varlen(q, k, v, cu_q, cu_k, 7, 7, causal=True, do=do)
    found = so.grad(adapted)
    assert found["dq"].shape == (10, 4, 8) and found["dk"].shape == (12, 2, 8)
    seen = np.zeros((10, 12), bool)
    seen[:3, :5] = visible(3, 5, "bottom-right")
    seen[3:, 5:] = visible(7, 7, "bottom-right")
    right = reference(problem, seen)
    candidate = {name: right[name][0].swapaxes(0, 1) for name in ("o", "dq", "dk", "dv")} | {"lse": right["lse"][0]}
    assert so.check(adapted, candidate, recipe="f64")
    candidate["dv"] = candidate["dv"][::-1]
    assert so.check(adapted, candidate, recipe="f64").outcome == "FAIL"


def test_sdpa_aligns_top_left():
    (q, k, v), do, problem = qkv(hk=4)
    expect(adapters.sdpa(q, k, v, is_causal=True, do=do), problem, visible(9, 11, "top-left"), "bhsd")
    expect(adapters.sdpa(q, k, v, None, 0.0, False, 0.5, do=do), problem, None, "bhsd", scale=0.5)


@pytest.mark.parametrize("shape", [(2, 4, 9, 11), (2, 1, 9, 11), (1, 1, 9, 11), (9, 11), (2, 1, 1, 11), (2, 4, 9, 1)])
def test_a_boolean_mask_of_sdpa_keeps_where_it_is_true(shape):
    (q, k, v), do, problem = qkv(hk=4)
    mask = np.random.default_rng(3).random(shape) < 0.7
    seen = np.broadcast_to(mask, (2, 4, 9, 11))
    adapted = adapters.sdpa(q, k, v, attn_mask=mask, do=do)
    right = reference(problem, seen)
    assert so.check(adapted, right, recipe="f64")
    assert so.check(adapted, reference(problem, ~seen), recipe="f64").outcome == "FAIL"
    assert "dbias" not in so.grad(adapted)


def test_a_mask_of_numbers_of_sdpa_is_a_bias():
    (q, k, v), do, problem = qkv()
    bias = numbers((9, 11), 5)
    adapted = adapters.sdpa(q, k, v, bias, enable_gqa=True, do=do)
    expect(adapted, problem, np.ones((9, 11), bool), "bhsd", bias=bias.astype(np.float64))
    assert so.grad(adapted)["dbias"].shape == (1, 1, 9, 11)


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ({"use_causal_mask": True}, visible(9, 11, "top-left")),
        ({"use_causal_mask_bottom_right": True}, visible(9, 11, "bottom-right")),
        ({"diagonal_band_right_bound": 0}, visible(9, 11, "top-left")),
        ({"diagonal_band_right_bound": 0, "diagonal_alignment": "BOTTOM_RIGHT"}, visible(9, 11, "bottom-right")),
        # The left bound counts the key on the diagonal: 1 sees it alone, 3 sees two more.
        ({"diagonal_band_left_bound": 1, "diagonal_band_right_bound": 0}, np.eye(9, 11, dtype=bool)),
        ({"use_causal_mask": True, "sliding_window_length": 3}, visible(9, 11, "top-left", (2, None))),
    ],
)
def test_cudnn_counts_the_diagonal_in_its_left_bound_and_has_scale_one(arguments, seen):
    (q, k, v), do, problem = qkv()
    expect(adapters.cudnn(q, k, v, do=do, **arguments), problem, seen, "bhsd", scale=1.0)
    expect(adapters.cudnn(q, k, v, 0.5, do=do, **arguments), problem, seen, "bhsd", scale=0.5)


@pytest.mark.parametrize("layout", ["sbhd", "bshd"])
def test_transformer_engine_hides_where_a_mask_is_true(layout):
    (q, k, v), do, problem = qkv(layout)
    mask = np.random.default_rng(3).random((2, 1, 9, 11)) < 0.3
    adapted = adapters.transformer_engine(q, k, v, mask, layout, attn_mask_type="arbitrary", do=do)
    expect(adapted, problem, np.broadcast_to(~mask, (2, 4, 9, 11)), layout)


@pytest.mark.parametrize(
    ("kind", "window", "seen"),
    [
        ("no_mask", None, None),
        ("causal", None, visible(9, 11, "top-left")),
        ("causal", (-1, 0), visible(9, 11, "top-left")),
        ("causal", (2, 0), visible(9, 11, "top-left", (2, 0))),
        ("causal_bottom_right", None, visible(9, 11, "bottom-right")),
        ("causal_bottom_right", (2, 0), visible(9, 11, "bottom-right", (2, 0))),
    ],
)
def test_transformer_engine_names_its_alignment(kind, window, seen):
    (q, k, v), do, problem = qkv("sbhd")
    merged = do.reshape(*do.shape[:2], -1)
    adapted = adapters.transformer_engine(q, k, v, attn_mask_type=kind, window_size=window, do=merged)
    expect(adapted, problem, seen, "sbhd")


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ({}, None),
        ({"is_causal": True}, visible(9, 11, "top-left")),
        ({"local_window_size": (3, 1)}, visible(9, 11, None, (3, 1))),
        ({"local_window_size": 2, "is_causal": True}, visible(9, 11, "top-left", (2, 2))),
    ],
)
def test_jax_aligns_top_left_and_has_heads_after_the_sequence(arguments, seen):
    (q, k, v), do, problem = qkv("bshd")
    expect(adapters.jax(q, k, v, do=do, **arguments), problem, seen, "bshd")
    mask = np.random.default_rng(3).random((2, 1, 9, 11)) < 0.9
    both = mask & (True if seen is None else seen)
    expect(adapters.jax(q, k, v, None, mask, do=do, **arguments), problem, both, "bshd")


CANNOT = [
    (adapters.flash_attn, "bshd", {"dropout_p": 0.1}, "dropout_p"),
    (adapters.flash_attn, "bshd", {"window_size": 3}, "window_size"),
    (adapters.sdpa, "bhsd", {"dropout_p": 0.5, "enable_gqa": True}, "dropout_p"),
    (adapters.sdpa, "bhsd", {}, "enable_gqa"),
    (adapters.sdpa, "bhsd", {"enable_gqa": True, "is_causal": True, "attn_mask": np.ones((9, 11), bool)}, "attn_mask"),
    (adapters.sdpa, "bhsd", {"enable_gqa": True, "attn_mask": np.ones((9, 1), np.float32)}, "attn_mask"),
    (adapters.flex, "bhsd", {"score_mod": lambda s, *_: s, "enable_gqa": True}, "score_mod"),
    (adapters.flex, "bhsd", {"kernel_options": {"BLOCK_M": 64}, "enable_gqa": True}, "kernel_options"),
    (adapters.cudnn, "bhsd", {"dropout": (0.1, 1, 2)}, "dropout"),
    (adapters.cudnn, "bhsd", {"use_alibi_mask": True}, "use_alibi_mask"),
    (adapters.cudnn, "bhsd", {"diagonal_band_left_bound": 0}, "left bound"),
    (adapters.cudnn, "bhsd", {"paged_attention_k_table": np.zeros(3)}, "paged_attention_k_table"),
    (adapters.transformer_engine, "sbhd", {"attention_dropout": 0.1}, "attention_dropout"),
    (adapters.transformer_engine, "sbhd", {"core_attention_bias_type": "pre_scale_bias"}, "core_attention_bias_type"),
    (adapters.transformer_engine, "sbhd", {"attn_mask_type": "arbitrary"}, "attention_mask"),
    (adapters.transformer_engine, "sbhd", {"attention_mask": np.ones((2, 1, 9, 11), bool)}, "attention_mask"),
    (adapters.transformer_engine, "sbhd", {"softmax_type": "learnable"}, "softmax_type"),
    (adapters.jax, "bshd", {"bias": np.zeros((1, 1, 9, 1), np.float32)}, "bias"),
]


@pytest.mark.parametrize(("adapter", "layout", "arguments", "named"), CANNOT)
def test_an_argument_that_cannot_be_carried_is_a_type_error(adapter, layout, arguments, named):
    (q, k, v), do, _ = qkv(layout)
    with pytest.raises(TypeError, match=named):
        adapter(q, k, v, do=do, **arguments)


@pytest.mark.parametrize("name", adapters.__all__)
def test_an_unknown_argument_is_a_type_error(name):
    (q, k, v), do, _ = qkv()
    with pytest.raises(TypeError, match="nonsense"):
        getattr(adapters, name)(q, k, v, do=do, nonsense=1)


def test_the_arguments_of_pytorch_have_the_names_and_defaults_of_its_own():
    torch = pytest.importorskip("torch")
    from torch.nn.attention.flex_attention import flex_attention

    ours = inspect.signature(adapters.flex).parameters
    for name, parameter in inspect.signature(flex_attention).parameters.items():
        if name in ours:
            assert ours[name].default == parameter.default, name
    assert list(ours)[:9] == list(inspect.signature(flex_attention).parameters)[:9]
    said = torch.nn.functional.scaled_dot_product_attention.__doc__.split("->")[0]
    for name, parameter in inspect.signature(adapters.sdpa).parameters.items():
        assert name == "do" or name in said


def test_pytorch_itself_passes_with_its_own_arguments():
    torch = pytest.importorskip("torch")
    (q, k, v), do, _ = qkv()
    mask = np.random.default_rng(3).random((1, 4, 9, 11)) < 0.8
    mask[..., 0] = True
    for arguments in ({"is_causal": True}, {"attn_mask": torch.from_numpy(mask)}, {"scale": 0.3}):
        inputs = [torch.from_numpy(x).double().requires_grad_() for x in (q, k, v)]
        o = torch.nn.functional.scaled_dot_product_attention(*inputs, enable_gqa=True, **arguments)
        dq, dk, dv = torch.autograd.grad(o, inputs, torch.from_numpy(do).double())
        adapted = adapters.sdpa(*inputs, enable_gqa=True, do=torch.from_numpy(do), **arguments)
        so.assert_correct(adapted, {"o": o, "dq": dq, "dk": dk, "dv": dv})


def test_the_block_mask_of_flex_attention_is_carried_pair_by_pair():
    torch = pytest.importorskip("torch")
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    problem = make_problem(b=1, hq=2, hk=2, nq=64, nk=48, d=16, e=16)
    q, k, v, do = (torch.from_numpy(problem[name]).double() for name in ("q", "k", "v", "do"))

    def band(width):
        rule = lambda b, h, i, j: (i >= j) & (i - j < width + h)  # noqa: E731
        return create_block_mask(rule, 1, 2, 64, 48, device="cpu", BLOCK_SIZE=16)

    # PyTorch has its forward pass alone on a CPU; the gradients are those of the pairs, written out.
    o = flex_attention(q, k, v, block_mask=band(20))
    i, j, h = np.arange(64)[:, None], np.arange(48), np.arange(2)[:, None, None]
    seen = (i >= j) & (i - j < 20 + h)
    right = reference(problem, seen[None])
    candidate = {name: right[name] for name in ("dq", "dk", "dv")} | {"o": o}
    so.assert_correct(adapters.flex(q, k, v, block_mask=band(20), do=do), candidate)
    assert so.check(adapters.flex(q, k, v, block_mask=band(21), do=do), candidate).outcome == "FAIL"


def test_jax_itself_passes_with_its_own_arguments():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    (q, k, v), do, _ = qkv("bshd", e=8)
    q, k, v, do = (jnp.asarray(x) for x in (q, k, v, do))
    mask = jnp.asarray(np.random.default_rng(3).random((2, 1, 9, 11)) < 0.8).at[..., 0].set(True)
    for arguments in ({"is_causal": True}, {"local_window_size": (3, 4)}, {"mask": mask, "scale": 0.3}):
        with jax.default_matmul_precision("highest"):
            o, pullback = jax.vjp(lambda *x: jax.nn.dot_product_attention(*x, **arguments), q, k, v)
            dq, dk, dv = pullback(do)
        adapted = adapters.jax(q, k, v, do=do, **arguments)
        so.assert_correct(adapted, {"o": o, "dq": dq, "dk": dk, "dv": dv}, recipe="f32")
