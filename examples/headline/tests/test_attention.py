"""The backward pass of attention against the library's for the same mask, and the estimators' means and counts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from headline.attention import Attention, Keep, Masking, backward
from headline.estimator import Estimator, budget
from headline.sampler import draw, multiplier

ALL_PARTS = Estimator(cotangents=True, centred=True, remainder=True)


def heads(count: int, n: int, d: int, seed: int = 0) -> list:
    numbers = torch.Generator().manual_seed(seed)
    return [torch.randn(count, n, d, generator=numbers, dtype=torch.float64) for _ in range(4)]


def dense(q, k, v):
    n = q.shape[1]
    w = torch.softmax((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf), -1)
    return w, w @ v


class Fixed:
    """A mask that is given."""

    centred = False

    def __init__(self, mask, c: float) -> None:
        self.mask, self.c = mask, c

    def __call__(self, w, g):
        return torch.where(self.mask, torch.clamp(w, min=1 / self.c), 0)


@pytest.mark.parametrize("sampler", ["bernoulli", "systematic"])
def test_the_library_has_the_same_gradients_for_the_same_mask(sampler: str) -> None:
    sus_oracle = pytest.importorskip("sus_oracle")
    from sus_oracle.torch import sus_attention

    q, k, v, g = heads(3, 17, 8)
    c = 2.5
    problem = {name: x[None].numpy() for name, x in (("q", q), ("k", k), ("v", v), ("do", g))}
    found = sus_oracle.grad(problem, causal=True, c=c, seed=7, sampler=sampler)
    mask = torch.zeros(3 * 17, 17, dtype=torch.bool)
    mask[np.repeat(np.arange(3 * 17), np.diff(found["mask/row_offsets"])), found["mask/columns"]] = True
    mask = mask.view(3, 17, 17)
    assert 0 < mask.sum() < 3 * 17 * 18 / 2
    ours = backward(q, k, v, dense(q, k, v)[1], g, Fixed(mask, c))
    leaves = [x[None].clone().requires_grad_() for x in (q, k, v)]
    o = sus_attention(*leaves, c=c, causal=True, seed=7, sampler=sampler)
    theirs = torch.autograd.grad(o, leaves, g[None])
    for name, a, b in zip(("dq", "dk", "dv"), ours, theirs, strict=True):
        np.testing.assert_allclose(a, b[0], rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(a, found[name][0], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("estimator", [Estimator(), Estimator(cotangents=True), Estimator(centred=True), Estimator(remainder=True), ALL_PARTS])
def test_the_mean_over_draws_is_the_dense_gradient(estimator: Estimator) -> None:
    """Heads that are all the same problem are as many draws. At most 5 standard errors: 1 run in 1e4 with 160 numbers, but the seed is fixed."""
    draws = 20000
    one = heads(1, 6, 4, seed=3)
    q, k, v, g = (x.expand(draws, -1, -1) for x in one)
    w, o = dense(*one[:3])
    attention = Attention(1, draws, torch.Generator().manual_seed(5), masking=Masking(torch.full((1, draws), 1.7), estimator=estimator))
    attention.count = True
    attention.begin_counts()
    found = backward(q, k, v, o.expand(draws, -1, -1), g, Keep(attention, 0, torch.arange(draws)))
    exact = torch.autograd.grad(dense(*(x.requires_grad_() for x in one[:3]))[1], one[:3], one[3])
    for name, x, mean in zip(("dq", "dk", "dv"), found, exact, strict=True):
        error = x.std(0) / draws**0.5
        assert ((x.mean(0) - mean[0]).abs() <= 5 * error + 1e-12).all(), name
    assert abs(float(attention.kept.mean() - attention.expected.mean())) < 5 * 3 / draws**0.5
    assert float(attention.expected.mean()) < 20  # of 21 entries: something is drawn


def test_everything_is_kept_at_a_large_budget() -> None:
    q, k, v, g = heads(2, 9, 4)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    exact = torch.autograd.grad(dense(*leaves)[1], leaves, g)
    for estimator in (Estimator(), ALL_PARTS, Estimator(True, True, True, same_count=True)):
        attention = Attention(1, 2, torch.Generator(), masking=Masking(torch.full((1, 2), 1e9), estimator=estimator))
        for x, y in zip(backward(q, k, v, dense(q, k, v)[1], g, Keep(attention, 0, torch.arange(2))), exact, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-8)


def test_the_count_is_that_of_the_papers_rule() -> None:
    q, k, _, g = heads(3, 40, 8)
    w = dense(3 * q, k, g)[0]
    c = torch.tensor([1.0, 4.0, 15.0], dtype=torch.float64)
    estimator = Estimator(cotangents=True, remainder=True, same_count=True)
    rest = (w - estimator.base(w)).tril()
    count = (estimator.level(w, rest, g, c) * rest.abs()).clamp(max=1).sum((1, 2))
    np.testing.assert_allclose(count, (c[:, None, None] * w).clamp(max=1).sum((1, 2)), rtol=1e-6)


def test_a_budget_above_the_entries_keeps_all() -> None:
    y = torch.rand(1, 5, 5).tril() + torch.eye(5)
    assert float((budget(y, torch.tensor([15.0])) * y.tril()).tril().flatten().sort().values[10]) > 1e20


def test_a_calibrated_row_has_its_budget() -> None:
    w = dense(*heads(2, 30, 8)[:3])[0]
    count = (multiplier(w, torch.tensor([3.0, 9.0]), "calibrated") * w).clamp(max=1).sum(-1)
    expected = torch.minimum(torch.arange(1, 31), torch.tensor([[3.0], [9.0]]))
    np.testing.assert_allclose(count, expected, rtol=1e-6)


def test_a_systematic_draw_keeps_the_sum_of_its_probabilities_up_to_one() -> None:
    q = torch.rand(4, 50, 50, generator=torch.Generator().manual_seed(0)).tril()
    kept = draw(q, "systematic", torch.Generator().manual_seed(1))
    assert ((kept.sum(-1) - q.sum(-1)).abs() < 1 + 1e-6).all()
