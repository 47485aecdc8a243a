"""Every layout gives the numbers of [B, H, S, D], bit for bit."""

import numpy as np
import pytest
import sus_oracle as so
from conftest import FROM_BHSD, in_layout, make_problem, reference, same_bits, visible


def packed(lengths_q, lengths_k):
    """A problem of packed sequences in thd, and each sequence as a problem of its own."""
    singles = [make_problem(b=1, nq=nq, nk=nk, seed=10 * n) for n, (nq, nk) in enumerate(zip(lengths_q, lengths_k))]
    joined = {
        name: np.concatenate([single[name][0].swapaxes(0, 1) for single in singles]) for name in ("q", "k", "v", "do")
    }
    for name, lengths in (("cu_seqlens_q", lengths_q), ("cu_seqlens_k", lengths_k)):
        joined[name] = np.cumsum([0, *lengths]).astype(np.int32)
    return joined, singles


@pytest.mark.parametrize("layout", ["bshd", "sbhd"])
@pytest.mark.parametrize("c", [None, 3.0])
def test_results_of_a_layout_are_those_of_bhsd_with_other_axes(layout, c):
    problem = make_problem()
    plain = so.grad(problem, causal=True, c=c, seed=5)
    other = so.grad(in_layout(problem, layout), layout=layout, causal=True, c=c, seed=5)
    assert ("mask/columns" in other) == (c is not None)
    same_bits({name: np.ascontiguousarray(x) for name, x in in_layout(plain, layout).items()}, other)


@pytest.mark.parametrize("layout", list(FROM_BHSD))
def test_a_candidate_of_another_implementation_passes_in_its_layout_alone(layout):
    # Three equal axes: every transposition has the right shape, and one alone has the right numbers.
    problem = make_problem(b=4, hq=4, hk=4, nq=4, nk=4, d=8, e=8)
    right = reference(problem, visible(4, 4, "bottom-right"))
    candidate = in_layout({name: x.astype(np.float32) for name, x in right.items()}, layout)
    for asked in FROM_BHSD:
        report = so.check(in_layout(problem, asked), candidate, layout=asked, causal=True)
        assert (report.outcome == "PASS") == (asked == layout), asked


def test_packed_sequences_are_the_sequences_one_by_one():
    joined, singles = packed([3, 0, 7], [5, 2, 7])
    found = so.grad(joined, layout="thd", causal=True)
    begin_q, begin_k = 0, 0
    for single in singles:
        expected = reference(single, visible(single["q"].shape[2], single["k"].shape[2], "bottom-right"))
        nq, nk = single["q"].shape[2], single["k"].shape[2]
        for name, begin, length in (("o", begin_q, nq), ("dq", begin_q, nq), ("dk", begin_k, nk), ("dv", begin_k, nk)):
            part = found[name][begin : begin + length].swapaxes(0, 1)
            report_error = np.abs(part - expected[name][0]).max(initial=0)
            # Sums of at most 11 terms of size below 100 in float64.
            assert report_error < 100 * 11 * 2**-52, name
        assert found["lse"].shape == (4, 10)
        begin_q, begin_k = begin_q + nq, begin_k + nk
    candidate = {name: found[name].astype(np.float32) for name in ("o", "lse", "dq", "dk", "dv")}
    assert so.check(joined, candidate, layout="thd", causal=True)
    candidate["dk"] = np.roll(candidate["dk"], 1, axis=0)
    assert so.check(joined, candidate, layout="thd", causal=True).outcome == "FAIL"


def test_packed_sequences_have_to_be_named():
    joined, _ = packed([3, 4], [3, 4])
    del joined["cu_seqlens_k"]
    with pytest.raises(so.InputError, match=r"tensor 'cu_seqlens_k': expected one of shape \[S\+1\]"):
        so.grad(joined, layout="thd")
    del joined["cu_seqlens_q"]
    with pytest.raises(so.InputError, match="expected 'cu_seqlens_q' and 'cu_seqlens_k', found neither"):
        so.grad(joined, layout="thd")


@pytest.mark.parametrize("layout", ["bshd", "sbhd"])
def test_lse_is_taken_with_its_heads_first_and_with_the_axes_of_the_layout(layout):
    problem = make_problem()
    found = so.grad(in_layout(problem, layout), layout=layout)
    candidate = {name: found[name].astype(np.float32) for name in ("dq", "dk", "dv", "lse")}
    assert candidate["lse"].shape == (2, 4, 9)
    assert so.check(in_layout(problem, layout), candidate, layout=layout)
    candidate["lse"] = np.transpose(candidate["lse"], {"bshd": (0, 2, 1), "sbhd": (2, 0, 1)}[layout])
    assert so.check(in_layout(problem, layout), candidate, layout=layout)
    candidate["lse"] = candidate["lse"] + np.float32(0.01)
    assert so.check(in_layout(problem, layout), candidate, layout=layout).outcome == "FAIL"


def test_many_runs_keep_their_leading_axis_in_every_layout():
    problem = make_problem()
    found = so.grad(in_layout(problem, "bshd"), layout="bshd")
    runs = {name: np.stack([found[name].astype(np.float32)] * 3) for name in ("dq", "dk", "dv")}
    report = so.check(in_layout(problem, "bshd"), runs, layout="bshd")
    assert report and report.json["runs"]["count"] == 3
    runs["dv"][2, 0, 0] += 1
    assert so.check(in_layout(problem, "bshd"), runs, layout="bshd").outcome == "FAIL"


def test_a_tensor_with_too_few_axes_is_named():
    problem = in_layout(make_problem(), "bshd")
    problem["k"] = problem["k"][0]
    with pytest.raises(so.InputError, match=r"tensor 'k': expected 4 axes \[B, S, H, D\] in layout bshd"):
        so.grad(problem, layout="bshd")
