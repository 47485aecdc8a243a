"""The differentiable attentions: their gradients are those of ``grad`` at the same seed, and the verdict says so."""

import math

import numpy as np
import pytest
import sus_oracle as so
from conftest import make_problem

SIZES = {"nq": 33, "nk": 41, "d": 16, "e": 12}
DRAW = {"c": 5.0, "seed": 3, "stream": 2}


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


class TestTorch:
    """PyTorch on a CPU."""

    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")
        from sus_oracle.torch import sus_attention

        self.attention = sus_attention

    def tensors(self, dtype, **sizes):
        problem = make_problem(**(SIZES | sizes))
        return problem, [self.torch.from_numpy(problem[name]).to(dtype) for name in ("q", "k", "v", "do")]

    def gradients(self, q, k, v, do, **options):
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        o = self.attention(*inputs, **options)
        return dict(zip(("dq", "dk", "dv"), self.torch.autograd.grad(o, inputs, do))) | {"o": o.detach()}

    @pytest.mark.parametrize("rule", ["paper", "calibrated"])
    @pytest.mark.parametrize("sampler", ["bernoulli", "systematic"])
    @pytest.mark.parametrize("causal", [False, True])
    def test_float64_gradients_are_those_of_grad_bit_for_bit(self, rule, sampler, causal):
        problem, tensors = self.tensors(self.torch.float64)
        options = {**DRAW, "rule": rule, "sampler": sampler, "causal": causal}
        found = self.gradients(*tensors, **options)
        expected = so.grad(problem, **options)
        for name in found:
            assert found[name].numpy().tobytes() == expected[name].tobytes(), name

    @pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
    def test_the_verdict_is_pass_and_another_seed_fails(self, dtype):
        _, (q, k, v, do) = self.tensors(getattr(self.torch, dtype))
        problem = {"q": q, "k": k, "v": v, "do": do}
        found = self.gradients(q, k, v, do, causal=True, scale=0.2, **DRAW)
        assert {x.dtype for x in found.values()} == {q.dtype}
        assert so.check(problem, found, causal=True, scale=0.2, **DRAW)
        assert so.check(problem, found, causal=True, scale=0.2, **(DRAW | {"seed": 4})).outcome == "FAIL"
        assert so.check(problem, found, causal=True, scale=0.2, **(DRAW | {"stream": 1})).outcome == "FAIL"

    def test_an_infinite_budget_is_the_dense_pass(self):
        problem, tensors = self.tensors(self.torch.float64)
        found = self.gradients(*tensors, c=math.inf)
        expected = so.grad(problem)
        assert all(found[name].numpy().tobytes() == expected[name].tobytes() for name in found)

    def test_strided_tensors_and_cotangents_are_read_as_they_look(self):
        _, (q, k, v, do) = self.tensors(self.torch.float64)
        plain = self.gradients(q, k, v, do, **DRAW)
        strided = [x.transpose(1, 3).contiguous().transpose(1, 3) for x in (q, k, v, do)]
        assert not strided[3].is_contiguous()
        found = self.gradients(*strided, **DRAW)
        assert all(self.torch.equal(found[name], plain[name]) for name in plain)
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        self.attention(*inputs, **DRAW).sum().backward()  # the cotangent of a sum is expanded
        expected = self.gradients(q, k, v, self.torch.ones_like(do), **DRAW)
        assert self.torch.equal(inputs[1].grad, expected["dk"])

    def test_bshd_is_bhsd_with_other_axes(self):
        _, tensors = self.tensors(self.torch.float64)
        plain = self.gradients(*tensors, **DRAW)
        found = self.gradients(*(x.transpose(1, 2) for x in tensors), layout="bshd", **DRAW)
        assert all(self.torch.equal(found[name].transpose(1, 2), plain[name]) for name in plain)

    def test_the_mean_over_seeds_is_the_dense_gradient(self):
        problem, tensors = self.tensors(self.torch.float64, b=1, hq=2, hk=2, nq=12, nk=12, d=4, e=4)
        runs = [self.gradients(*tensors, c=3.0, seed=seed) for seed in range(400)]
        stacked = {name: np.stack([run[name].numpy() for run in runs]) for name in ("dq", "dk", "dv")}
        # By the law alone: mean and variance of 400 runs.
        assert so.check(problem, stacked, c=3.0, recipe="f64").outcome in ("PASS", "INCONCLUSIVE")
        stacked["dv"] = stacked["dv"] * 1.3
        assert so.check(problem, stacked, c=3.0, recipe="f64").outcome == "FAIL"

    def test_it_is_a_function_that_can_be_checked(self):
        _, (q, k, v, _) = self.tensors(self.torch.float32)
        report = so.check_function(lambda *x: self.attention(*x, causal=True, **DRAW), (q, k, v), causal=True, **DRAW)
        assert report, str(report)

    def test_it_trains_and_refuses_second_derivatives(self):
        _, (q, k, v, do) = self.tensors(self.torch.float64)
        q.requires_grad_()
        do.requires_grad_()
        (dq,) = self.torch.autograd.grad(self.attention(q, k, v, **DRAW), q, do, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            dq.sum().backward()

    def test_bad_arguments_are_one_line(self):
        _, (q, k, v, _) = self.tensors(self.torch.float32)
        for arguments, options, said in (
            ((q[0], k, v), {"c": 3}, "tensor 'q': expected 4 axes"),
            ((q, k, v.int()), {"c": 3}, "tensor 'v': expected a floating-point type"),
            ((q, k, v), {"c": 0}, "metadata key 'c'"),
            ((q, k, v), {"c": 3, "rule": "none"}, "metadata key 'rule'"),
            ((q, k[:, :, :, :3], v), {"c": 3}, "tensor 'k'"),
        ):
            with pytest.raises(so.InputError, match=said):
                self.attention(*arguments, **options)
        with pytest.raises(NotImplementedError, match="expected 'q' on a CPU or a GPU, found it on meta"):
            self.attention(q.to("meta"), k, v, c=3)


class TestJax:
    """JAX, by a callback on the host."""

    @pytest.fixture(autouse=True)
    def _jax(self):
        self.jax = pytest.importorskip("jax")
        from sus_oracle.jax import sus_attention

        self.attention = sus_attention

    def arrays(self, dtype):
        problem = make_problem(**SIZES)
        return [self.jax.numpy.asarray(problem[name], dtype) for name in ("q", "k", "v", "do")]

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("compiled", [False, True])
    def test_the_verdict_is_pass_and_another_seed_fails(self, dtype, compiled):
        q, k, v, do = self.arrays(dtype)

        def passes(q, k, v, do):
            o, pullback = self.jax.vjp(lambda *x: self.attention(*x, causal=True, **DRAW), q, k, v)
            return o, pullback(do)

        o, (dq, dk, dv) = (self.jax.jit(passes) if compiled else passes)(q, k, v, do)
        problem, found = {"q": q, "k": k, "v": v, "do": do}, {"o": o, "dq": dq, "dk": dk, "dv": dv}
        assert dq.dtype == q.dtype
        assert so.check(problem, found, causal=True, **DRAW)
        assert so.check(problem, found, causal=True, **(DRAW | {"seed": 4})).outcome == "FAIL"

    def test_bshd_and_vmap_give_the_same_numbers(self):
        jnp = self.jax.numpy
        q, k, v, do = self.arrays("float32")
        loss = lambda *x, **o: (self.attention(*x, **DRAW, **o) * (do if not o else jnp.swapaxes(do, 1, 2))).sum()  # noqa: E731
        plain = self.jax.grad(loss, (0, 1, 2))(q, k, v)
        other = self.jax.grad(lambda *x: loss(*x, layout="bshd"), (0, 1, 2))(
            *(jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        )
        for a, b in zip(plain, other):
            assert jnp.array_equal(a, jnp.swapaxes(b, 1, 2))
        mapped = self.jax.vmap(lambda *x: self.attention(*x, **DRAW))(*(jnp.stack([x, x]) for x in (q, k, v)))
        assert jnp.array_equal(mapped[0], self.attention(q, k, v, **DRAW))
        assert jnp.array_equal(mapped[1], mapped[0])

    def test_bad_arguments_are_one_line(self):
        q, k, v, _ = self.arrays("float32")
        with pytest.raises(so.InputError, match="tensor 'q': expected 4 axes"):
            self.attention(q[0], k, v, c=3)
        with pytest.raises(so.InputError, match="option 'layout'"):
            self.attention(q, k, v, c=3, layout="sbhd")
