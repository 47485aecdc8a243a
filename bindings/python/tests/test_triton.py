"""The Triton kernels: against a float64 evaluation of the equations, with the mask drawn again from the definition of `arrival`."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

from sus_oracle.triton import sampled_forward, sparse_backward, sus_attention  # noqa: E402

MASK = 0xFFFFFFFF
LOW_S, MIDDLE_S, HIGH_S = 1.0, float.fromhex("0x1.fdecbe15f6314p-1"), float.fromhex("0x1.ddd79e065807dp-1")


def philox(counter: list[int], seed: int) -> list[int]:
    """Philox4x32-10 (Salmon et al. 2011, section 3.3)."""
    x, key = list(counter), [seed & MASK, seed >> 32]
    for _ in range(10):
        first, second = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
        x = [second >> 32 ^ x[1] ^ key[0], second & MASK, first >> 32 ^ x[3] ^ key[1], first & MASK]
        key = [key[0] + 0x9E3779B9 & MASK, key[1] + 0xBB67AE85 & MASK]
    return x


def word_of(rest: float, s: float) -> int:
    return math.floor((1.0 - rest * s) * 2.0**32)


def words(seed: int, stream: int, bh: int, i: int, keys: int) -> list[int]:
    """The word `x` of each key of a row: the definition, word by word."""
    found = []
    for j in range(keys):
        w = philox([j >> 2, i, bh, stream], seed)[j & 3]
        found.append(word_of((w + 0.5) / 2.0**32, HIGH_S))
    for tag, g, s in ((2, 10, LOW_S), (1, 6, MIDDLE_S)):
        for cell in range(-(-keys >> g)):
            product = 1 << 32
            for n in range(64):
                w = philox([tag << 30 | cell << 4 | n >> 2, i, bh, stream], seed)[n & 3]
                product = product * (w & ~((1 << g) - 1) | 1 << g - 1) >> 32
                if product < 1 << 26:
                    break
                rest = product / 2.0**32
                for _ in range(g):
                    rest = math.sqrt(rest)
                j = cell << g | w & (1 << g) - 1
                if j < keys:
                    found[j] = min(found[j], word_of(rest, s))
    return found


def test_the_words_are_those_of_the_definition() -> None:
    assert [f"{x:08x}" for x in words(42, 0, 3, 17, 128)[:16]] == (
        "a8bfa70c 2198c162 4406c6c2 515a1e5f d645ecba 6c2ba728 aa4de796 994ad00b "
        "ed4add37 d18d17df 6d2c3ee9 152f41df 432d0ba4 32f9d090 5a500800 06759714"
    ).split()
    far = words((1 << 40) + 7, 5, 11, 300, 3000)
    assert [far[j] for j in (0, 1023, 1024, 1181, 2032, 2999)] == [0x58C34D16, 0x1BDAB1C9, 0xF0C1BE9C, 0x0011B532, 0x001C883C, 0xF8A65801]


def problem(shape: tuple[int, ...], dtype: torch.dtype, deviation: float) -> list[torch.Tensor]:
    """q, k, v and the cotangent of o."""
    batch, query_heads, key_heads, queries, keys, features = shape
    numbers = torch.Generator(device="cuda").manual_seed(5)
    sizes = [(query_heads, queries), (key_heads, keys), (key_heads, keys), (query_heads, queries)]
    tensors = [torch.randn((batch, *size, features), generator=numbers, device="cuda", dtype=torch.float32) for size in sizes]
    tensors[0] *= deviation
    return [x.to(dtype) for x in tensors]


SHAPES = {
    "a tile": (1, 1, 1, 128, 64, 64),
    "grouped heads and no multiples": (2, 4, 2, 300, 431, 64),
    "two cells of the low strip": (1, 2, 1, 150, 1500, 128),
    "more queries than keys": (1, 2, 2, 200, 130, 64),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_o_the_mask_and_the_gradients_are_those_of_the_equations(shape: tuple[int, ...], dtype: torch.dtype, causal: bool) -> None:
    c, seed, stream = 8.0, (3 << 40) + 11, 2
    q, k, v, g = problem(shape, dtype, 2.0)
    batch, query_heads, key_heads, queries, keys, features = shape
    o, lse, kept, counts = sampled_forward(q, k, v, c=c, causal=causal, seed=seed, stream=stream)
    dq, dk, dv = sparse_backward(q, k, v, o, lse, g, kept, counts, c=c)

    exact = [x.double() for x in (q, k, v, g)]
    group = query_heads // key_heads
    wide = [exact[0], exact[1].repeat_interleave(group, 1), exact[2].repeat_interleave(group, 1), exact[3]]
    s = wide[0] @ wide[1].mT / math.sqrt(features)
    if causal:
        hidden = torch.ones(queries, keys, dtype=torch.bool, device="cuda").triu(keys - queries + 1)
        s = s.masked_fill(hidden, -math.inf)
    expected_lse = torch.logsumexp(s, -1)
    seen = torch.isfinite(expected_lse)
    w = torch.where(seen[..., None], torch.exp(s - torch.where(seen, expected_lse, 0)[..., None]), 0)
    unit = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
    assert ((lse.double() * math.log(2) - expected_lse)[seen].abs() < 1e-4).all()
    close = lambda x, y, what: _close(x, y, unit, what)  # noqa: E731
    close(o, w @ wide[2], "o")

    # The mask: borderline entries are those within 12 roundings of the word and of the score's own error.
    keep = torch.zeros_like(w, dtype=torch.bool)
    rows = keep.view(-1, keys)
    for row, count in enumerate(counts.tolist()):
        assert count <= kept.shape[1]
        listed = kept[row, :count].long()
        assert len(set(listed.tolist())) == count, "a key is kept once"
        rows[row, listed] = True
    drawn = np.array([[words(seed, stream, bh, i, keys) for i in range(queries)] for bh in range(batch * query_heads)])
    x = torch.from_numpy(drawn).cuda().view(w.shape).double() / 2**32
    limit = c * w
    borderline = (x - limit).abs() < 1e-4 * limit
    expected = (w > 0) & ((limit >= 1) | (x < limit))
    assert (keep == expected)[~borderline].all()
    assert borderline.sum() < 0.001 * w.numel() + 8
    assert keep.sum() > 0.1 * rows.shape[0]

    weights = torch.where(keep, torch.maximum(w, torch.tensor(1 / c, dtype=torch.float64)), 0)
    delta = (exact[3] * o.double()).sum(-1, keepdim=True)
    ds = weights * (exact[3] @ wide[2].mT - delta) / math.sqrt(features)
    grouped = lambda x: x.view(batch, key_heads, group, keys, features).sum(2)  # noqa: E731
    close(dq, ds @ wide[1], "dq")
    close(dk, grouped(ds.mT @ exact[0]), "dk")
    close(dv, grouped(weights.mT @ exact[3]), "dv")


def _close(found: torch.Tensor, expected: torch.Tensor, unit: float, what: str) -> None:
    error = (found.double() - expected).norm() / expected.norm().clamp_min(1e-30)
    assert error < 2 * unit, f"{what}: a relative error of {error:.2e}"


def test_repeated_passes_have_the_same_bits_and_long_columns_are_split() -> None:
    q, k, v, g = problem((1, 2, 1, 3000, 700, 64), torch.bfloat16, 1.0)
    k[:, :, 5] = 3 * q[:, :1].mean(-2)
    q += 4 * k[:, :, 5:6]  # every query looks at key 5
    leaves = [x.requires_grad_() for x in (q, k, v)]
    results = [torch.autograd.grad(sus_attention(*leaves, c=10.0, seed=1), leaves, g) for _ in range(2)]
    for once, again in zip(*results):
        assert torch.equal(once, again)


def test_no_query_and_no_key() -> None:
    for queries, keys in ((0, 5), (5, 0)):
        q, k, v, g = problem((1, 1, 1, queries, keys, 64), torch.bfloat16, 1.0)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        o = sus_attention(*leaves, c=3.0)
        assert torch.equal(o, torch.zeros_like(o))
        assert all(torch.equal(x, torch.zeros_like(x)) for x in torch.autograd.grad(o, leaves, g))
