"""An array is read as it looks, whatever its strides and its library."""

import numpy as np
import pytest
import sus_oracle as so
from conftest import make_problem, numbers, same_bits
from sus_oracle._arrays import array_of, from_bytes, to_bytes

ml_dtypes = pytest.importorskip("ml_dtypes")

#: Views with the same elements as an array.
VIEWS = {
    "fortran": lambda x: np.asfortranarray(x),
    "negative strides": lambda x: np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :],
    "every second element": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(1, 3)).swapaxes(1, 3),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "a part of a larger array": lambda x: np.pad(x, 1)[1:-1, 1:-1, 1:-1, 1:-1],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, "bfloat16"])
def test_a_view_has_the_results_of_the_array_that_it_looks_like(view, dtype):
    if dtype == "bfloat16" and view == "big-endian":
        pytest.skip("ml_dtypes has no byte orders")
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    problem = {name: x.astype(dtype) for name, x in make_problem().items()}
    other = {name: VIEWS[view](x) for name, x in problem.items()}
    assert any(x.strides != problem[name].strides for name, x in other.items()) or view in ("read-only", "big-endian")
    same_bits(so.grad(problem), so.grad(other))


def test_an_expanded_array_has_stride_zero_and_equal_elements():
    problem = make_problem(hk=4)
    one = problem["k"][:, :1]
    problem["k"] = np.broadcast_to(one, (2, 4, 11, 8))
    assert problem["k"].strides[1] == 0
    same_bits(so.grad(problem), so.grad({**problem, "k": np.repeat(one, 4, axis=1)}))


def test_the_caller_keeps_its_arrays_and_may_write_to_results():
    problem = make_problem()
    before = {name: x.copy() for name, x in problem.items()}
    found = so.grad(problem)
    found["dq"][...] = 0
    same_bits(problem, before)


@pytest.mark.parametrize("sizes", [{"b": 0}, {"nq": 0}, {"nk": 0}, {"b": 0, "nq": 0}])
def test_empty_arrays_have_empty_or_zero_results(sizes):
    found = so.grad(make_problem(**sizes))
    assert found["dq"].shape[0] == sizes.get("b", 2) and found["dq"].shape[2] == sizes.get("nq", 9)
    assert not found["dq"].any() and not found["dk"].any()
    if "nk" in sizes:
        assert np.isneginf(found["lse"]).all()


def test_bfloat16_is_read_exactly():
    x = numbers((2, 3), 0) * np.float32(1 + 2**-7)
    exact = x.astype(ml_dtypes.bfloat16)
    kind, data = array_of("x", exact)
    assert (
        kind == "BF16" and (data.astype(np.uint32) << 16).view(np.float32).tolist() == exact.astype(np.float32).tolist()
    )


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "uint64", "uint32", "uint8", "bool"]
)
def test_bytes_are_read_back(dtype):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)[:, ::-1]
    arrays, metadata = from_bytes(to_bytes({"x": array_of("x", x)}, '{"causal": true}'))
    same_bits({"x": arrays["x"].data}, {"x": np.ascontiguousarray(x)})
    assert metadata == '{"causal": true}'


def test_every_dtype_and_stride_gives_the_elements_in_their_order():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(
        st.sampled_from([np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.uint8, np.bool_]),
        st.lists(st.integers(0, 4), min_size=1, max_size=5),
        st.randoms(use_true_random=False),
    )
    def holds(dtype, shape, random):
        steps = [random.choice([-2, -1, 1, 2]) for _ in shape]
        base = np.arange(np.prod([2 * n for n in shape], dtype=int)).reshape([2 * n for n in shape]).astype(dtype)
        view = base[tuple(slice(None, None, step) for step in steps)]
        view = view[tuple(slice(0, n) for n in shape)]
        view = view.transpose(random.sample(range(view.ndim), view.ndim))
        array = array_of("x", view)
        assert array.data.tobytes("C") == b"".join(element.tobytes() for element in view.flatten())
        assert list(array.data.shape) == list(view.shape)

    holds()


@pytest.mark.parametrize(
    ("value", "found"),
    [(np.zeros((1, 1, 2, 2), complex), "complex128"), (np.array([["a"]]), "<U1"), (object(), "object")],
)
def test_what_is_no_array_of_numbers_is_named(value, found):
    with pytest.raises(so.InputError, match=f"tensor 'q': expected .*, found {found}"):
        so.grad({**make_problem(), "q": value})


def test_a_masked_array_is_refused_as_its_mask_would_be_lost():
    problem = make_problem()
    problem["q"] = np.ma.masked_array(problem["q"], problem["q"] > 1)
    with pytest.raises(so.InputError, match="tensor 'q': expected an array without a mask"):
        so.grad(problem)


class TestTorch:
    """Tensors of PyTorch."""

    torch = None

    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")

    @pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
    def test_a_tensor_that_needs_a_gradient_has_the_results_of_its_numbers(self, name):
        problem = make_problem()
        dtype = getattr(self.torch, name)
        tensors = {key: self.torch.from_numpy(x).to(dtype).requires_grad_() for key, x in problem.items()}
        same_bits(so.grad(problem), so.grad(tensors))

    def test_strides_and_a_negative_bit_are_read_as_they_look(self):
        problem = make_problem()
        tensors = {key: self.torch.from_numpy(x) for key, x in problem.items()}
        tensors["q"] = tensors["q"].transpose(1, 3).contiguous().transpose(1, 3)
        tensors["k"] = self.torch.complex(tensors["v"].new_zeros(tensors["k"].shape), -tensors["k"]).conj().imag
        assert tensors["k"].is_neg()
        tensors["do"] = tensors["do"][:, :, :1].expand(-1, -1, 9, -1)
        problem["do"] = np.repeat(problem["do"][:, :, :1], 9, axis=2)
        same_bits(so.grad(problem), so.grad(tensors))

    def test_a_tensor_without_values_is_refused(self):
        problem = make_problem()
        with pytest.raises(so.InputError, match="tensor 'q': expected a dense torch tensor with values"):
            so.grad({**problem, "q": self.torch.empty((2, 4, 9, 8), device="meta")})


def test_jax_arrays_have_the_results_of_their_numbers():
    jnp = pytest.importorskip("jax.numpy")
    problem = make_problem()
    same_bits(so.grad(problem), so.grad({name: jnp.asarray(x, jnp.bfloat16) for name, x in problem.items()}))


def test_the_package_imports_no_library_of_tensors():
    import subprocess
    import sys

    code = "import sys, sus_oracle; print([m for m in ('torch', 'jax', 'ml_dtypes', 'pytest') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_parts_for_pytorch_and_jax_are_imported_when_they_are_named():
    assert so.__version__
    for name in ("torch", "jax"):
        pytest.importorskip(name)
        assert callable(getattr(so, name).sus_attention)
    with pytest.raises(AttributeError, match="has no attribute 'numpy'"):
        so.numpy  # noqa: B018
