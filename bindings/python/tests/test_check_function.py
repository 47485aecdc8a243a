"""A function that is wrong for some strides of its cotangent alone, and functions that are right."""

import contextlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import sus_oracle as so
from conftest import in_layout, make_problem

torch = pytest.importorskip("torch")


def attention(q, k, v, **others):
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    assert not others
    return o


def with_backward(change):
    """Attention whose backward pass sees ``change(do)`` in place of its cotangent."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v):
            with torch.enable_grad():
                ctx.inputs = [x.detach().requires_grad_() for x in (q, k, v)]
                ctx.o = attention(*ctx.inputs)
            return ctx.o.detach().clone()

        @staticmethod
        def backward(ctx, do):
            return torch.autograd.grad(ctx.o, ctx.inputs, change(do))

    return Attention.apply


def memory_of(do):
    """The elements in the order of the memory, as a kernel reads that ignores strides."""
    length = do.untyped_storage().nbytes() // do.element_size()
    flat = torch.as_strided(do, (length,), (1,), 0)
    return flat.repeat(-(-do.numel() // length))[: do.numel()].reshape(do.shape)


def tensors(dtype=torch.float32, layout="bhsd"):
    problem = in_layout(make_problem(nk=9, e=8), layout)
    return {name: torch.from_numpy(np.ascontiguousarray(problem[name])).to(dtype) for name in ("q", "k", "v")}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_right_function_passes_every_run(dtype):
    report = so.check_function(attention, tensors(dtype), causal=True)
    assert report and report.outcome == "PASS" and len(report.runs) >= 14
    assert {"contiguous", "expanded, as of a sum", "expanded along queries"} <= set(report.reports)


def test_the_inputs_may_be_a_sequence_an_adapter_and_of_another_layout():
    named = tensors()
    assert so.check_function(attention, tuple(named.values()), causal=True)

    def swapped(q, k, v):
        return attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    assert so.check_function(swapped, tensors(layout="bshd"), layout="bshd", causal=True)
    q, k, v = tensors(layout="bshd").values()
    assert so.check_function(swapped, so.adapters.flash_attn(q, k, v, causal=True))
    assert not so.check_function(swapped, so.adapters.flash_attn(q, k, v))


def test_a_kernel_that_ignores_strides_passes_the_contiguous_runs_alone():
    report = so.check_function(with_backward(memory_of), tensors(), causal=True)
    assert report.outcome == "FAIL" and not report
    for name, single in report.reports.items():
        # The memory of ones is ones in any order.
        right = name.startswith(("contiguous", "expanded, as of a sum"))
        assert (single.outcome == "PASS") == right, name
    assert report.worst.name in str(report) and report.json["verdict"] == "FAIL"


def test_a_kernel_that_is_wrong_for_a_stride_of_zero_fails_the_expanded_runs_alone():
    wrong = with_backward(lambda do: do * (2 if 0 in do.stride() else 1))
    report = so.check_function(wrong, tensors(), causal=True)
    for name, single in report.reports.items():
        assert (single.outcome == "FAIL") == name.startswith("expanded"), name


def test_memory_that_was_never_written_is_seen():
    def unwritten(do):
        out = torch.empty_like(do, memory_format=torch.contiguous_format)
        out[:, :-1] = do[:, :-1]
        return torch.where(torch.isnan(out), out, do)

    report = so.check_function(with_backward(unwritten), tensors(), causal=True)
    again = [name for name in report.reports if "filled with NaN" in name]
    assert len(again) == len(report.runs) / 2
    assert all(report.reports[name].outcome == "FAIL" for name in again)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_function_that_is_wrong_from_its_second_call_on_fails():
    calls = []

    def drifting(q, k, v):
        calls.append(1)
        return attention(q, k, v) * (1.0 if len(calls) < 3 else 1.01)

    report = so.check_function(drifting, tensors(), causal=True)
    assert report.reports["contiguous"].outcome == "PASS" and report.outcome == "FAIL"


def test_a_given_cotangent_and_lse_are_judged():
    named = tensors(torch.float64)

    def both(q, k, v, shift=0.0):
        k, v = (x.repeat_interleave(2, 1) for x in (k, v))
        s = (q @ k.mT / 8**0.5).masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), float("-inf"))
        return s.softmax(-1) @ v, s.logsumexp(-1) + shift

    do = torch.from_numpy(make_problem(nk=9, e=8)["do"]).double()
    assert so.check_function(both, named, do=do, causal=True)
    wrong = so.check_function(lambda *x: both(*x, shift=0.01), named, do=do, causal=True)
    assert all(run.report.outcome == "FAIL" and "lse" in str(run.report) for run in wrong.runs)


def test_a_bias_is_passed_by_its_name_and_its_gradient_is_judged():
    named = tensors(torch.float64) | {"bias": torch.ones(1, 4, 9, 9, dtype=torch.float64)}

    def biased(q, k, v, bias, factor=1.0):
        o = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
        return o + (factor - 1) * (bias - bias.detach()).sum()

    assert so.check_function(biased, named)
    assert so.check_function(lambda *x, bias: biased(*x, bias, factor=1.5), named).outcome == "FAIL"


@contextlib.contextmanager
def dask_executor():
    """The executor of a cluster of two workers on this machine."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


EXECUTORS = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, get_context("spawn")),
    "dask": dask_executor,
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_executor_gives_the_same_reports(executor):
    plain = so.check_function(attention, tensors(), causal=True)
    with EXECUTORS[executor]() as pool:
        spread = so.check_function(attention, tensors(), causal=True, executor=pool)
        problem = make_problem()
        found = so.grad(problem)
        assert so.check(problem, found, executor=pool) == so.check(problem, found)
    assert [(run.name, run.report.json, str(run.report)) for run in spread.runs] == [
        (run.name, run.report.json, str(run.report)) for run in plain.runs
    ]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            {"q": np.zeros(3), "k": np.zeros(3), "v": np.zeros(3)},
            "expected torch tensors or JAX arrays alone, found arrays of numpy",
        ),
        ((1, 2), "expected a dict with q, k, v"),
        ({"q": torch.zeros(1)}, "expected a tensor 'k', found none"),
    ],
)
def test_bad_inputs_are_one_line(inputs, said):
    with pytest.raises(so.InputError, match=said):
        so.check_function(attention, inputs)


def test_a_function_without_a_derivative_is_one_line():
    with pytest.raises(so.InputError, match="expected a differentiable o"):
        so.check_function(lambda q, k, v: q.detach(), tensors())


def test_jax_functions_are_judged_with_and_without_jit():
    jax = pytest.importorskip("jax")
    problem = make_problem(nk=9, e=8)
    inputs = {name: jax.numpy.asarray(problem[name].swapaxes(1, 2)) for name in ("q", "k", "v")}

    def right(q, k, v):
        with jax.default_matmul_precision("highest"):
            return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    report = so.check_function(right, inputs, layout="bshd", causal=True, recipe="f32-repeated")
    assert report and any("compiled" in run.name for run in report.runs)
    wrong = so.check_function(lambda q, k, v: right(q, k, v) * 1.001, inputs, layout="bshd", causal=True)
    assert wrong.outcome == "FAIL"
