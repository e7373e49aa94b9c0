"""Roots of Gram matrices: against QR and dense updates, both ways to them, narrow types, zeros, parts."""

import doctest

import pytest
import torch

from lorascope.core import LoRABatch, collate
from lorascope.symmetry import act, random_gauges, roots
from lorascope.symmetry.roots import FARTHEST_SPAN, factor_roots, gram_roots


def values(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    r_u, r_v = factor_roots([u, v])
    return torch.linalg.svdvals(r_u @ r_v.mT)


def householder(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    r_u, r_v = (torch.linalg.qr(x.mT, mode="r").R.double() for x in (u, v))
    return torch.linalg.svdvals(r_u @ r_v.mT)


def near_rows(draw, distance: float) -> torch.Tensor:
    """Two unit rows whose angle has this sine."""
    q = torch.linalg.qr(draw.normal(500, 2)).Q.T
    return torch.stack([q[0], (1 - distance**2) ** 0.5 * q[0] + distance * q[1]])


def test_their_squares_are_the_gram_matrices(draw):
    batch = draw.batch()
    found = gram_roots(batch)
    for name, r in (("u", found.u), ("v", found.v)):
        grams = torch.cat([x @ x.mT for x in (getattr(g, name) for g in batch.groups)])
        torch.testing.assert_close(r.mT @ r, grams)
    updates = torch.cat([(g.u.mT @ g.v).flatten(0, 1) for g in batch.groups[:1]])
    expected = torch.linalg.svdvals(updates)[:, :3]
    torch.testing.assert_close(torch.linalg.svdvals(found.joined[:2]).flatten(0, 1), expected)


def test_values_of_any_size_keep_their_digits_where_rows_are_far_apart(draw):
    """Down to 1e-7 of the largest, in float32, where an error of eps |u| |v| would be larger than they are."""
    x, y = (torch.linalg.qr(draw.normal(300, 4)).Q.T for _ in range(2))
    size = torch.tensor([1.0, 1e-2, 1e-4, 1e-7]).double()
    u, v = (size[:, None] * x).float(), y.float()
    exact = householder(u.double(), v.double())
    torch.testing.assert_close(values(u, v), exact, rtol=3e-6, atol=0)


def test_rows_near_each_other_are_as_accurate_as_by_qr(draw):
    v = torch.linalg.qr(draw.normal(300, 2)).Q.T.float()
    for sine in (0.5, 0.1, 1e-2, 1e-3):
        u = near_rows(draw, sine).float()
        exact = householder(u.double(), v.double())
        # 1e-7 of the largest is all that float32 rows say of what they do not share
        torch.testing.assert_close(values(u, v), exact, rtol=3e-6, atol=2e-7)
        if sine**2 < 1 / FARTHEST_SPAN:
            assert torch.equal(factor_roots([u])[0], torch.linalg.qr(u.T, mode="r").R.double())


def test_in_float64_they_are_as_good_as_qr(draw):
    for sine in (0.5, 1e-2, 1e-6, 0.0):
        u, v = near_rows(draw, sine), draw.normal(2, 300)
        torch.testing.assert_close(values(u, v), householder(u, v), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gauge_changes_little_in_float32_and_narrow_types_are_read_as_they_are(draw, dtype):
    batch = draw.batch(size=6).to(dtype=dtype)
    exact = torch.linalg.svdvals(gram_roots(batch.to(dtype=torch.float64)).joined)
    found = torch.linalg.svdvals(gram_roots(batch).joined)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)
    if dtype == torch.float32:
        turned = act(random_gauges(batch, generator=draw.generator, condition=10.0), batch)
        after = torch.linalg.svdvals(gram_roots(turned).joined)
        assert float(((after - exact) / exact[..., :1]).abs().max()) < 1e-5


def test_zeros_stay_zeros(draw):
    batch = draw.ragged_batch()
    found = gram_roots(batch.pad(6))
    spectrum = torch.linalg.svdvals(found.joined)
    ranks = torch.cat([batch.rank_mask(i) for i in range(len(batch.groups))]).sum(-1)
    assert bool((spectrum[torch.arange(6) >= ranks[..., None]] == 0).all())
    torch.testing.assert_close(spectrum[..., :4], torch.linalg.svdvals(gram_roots(batch).joined))


def test_more_rows_than_columns(draw):
    for dtype in (torch.float32, torch.float64):
        x = draw.normal(2, 5, 3).to(dtype)
        (r,) = factor_roots([x])
        assert r.shape == (2, 5, 5)
        assert r.dtype == torch.float64
        torch.testing.assert_close(r.mT @ r, (x @ x.mT).double(), rtol=1e-5, atol=1e-5)


def test_lengths_that_float32_cannot_square(draw):
    x = draw.normal(3, 100)
    for size in (1e-18, 1e25):
        (r,) = factor_roots([(size * x).float()])
        assert torch.allclose(r.mT @ r / size**2, x @ x.T, rtol=1e-5, atol=1e-4)


def test_part_of_a_batch_and_small_blocks_change_nothing(draw, monkeypatch):
    batch = draw.batch(size=5).to(dtype=torch.bfloat16)
    batch.groups[0].u[:, 3, 1] = batch.groups[0].u[:, 3, 0]  # for QR
    whole = gram_roots(batch)
    monkeypatch.setattr(roots, "BLOCK_NUMBERS", 60)
    part = gram_roots(batch.select(slice(1, 4)))
    for one, other in ((whole.u, part.u), (whole.v, part.v)):
        torch.testing.assert_close(one[:, 1:4], other, rtol=1e-6, atol=1e-6)


def test_values_are_those_of_the_update(draw):
    batch = draw.batch(size=3)
    for dtype in (torch.float32, torch.float64):
        found = gram_roots(batch.to(dtype=dtype))
        assert found.dtype == dtype
        expected = torch.linalg.svdvals(found.joined)
        torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-6)


def test_gram_matrices_that_are_known_are_not_made_again(draw):
    batch = draw.batch(size=3)
    factors = [g.u for g in batch.groups] + [g.v for g in batch.groups]
    known = [roots.gram(x).view(*x.shape[:3], -1) for x in factors]
    assert torch.equal(gram_roots(batch, known).joined, gram_roots(batch).joined)


def test_nothing(draw):
    signature = draw.batch().signature
    empty: LoRABatch = collate([], signature, rank=2, dtype=torch.float64)
    assert gram_roots(empty).u.shape == (5, 0, 2, 2)
    assert gram_roots(collate([draw.lora(0)], signature)).joined.shape == (5, 1, 0, 0)


def test_on_a_gpu_near_rows_go_through_eigenvectors_in_float64(draw):
    """The same function, on the CPU: what it finds of rows in float32."""
    for sine in (0.5, 1e-3, 1e-5):
        u = near_rows(draw, sine).float()
        r = roots._eigen_root(u.double().unsqueeze(0))[0]
        torch.testing.assert_close(
            torch.linalg.svdvals(r), torch.linalg.svdvals(u.double()), rtol=1e-6, atol=2e-8
        )


def test_examples_run():
    assert doctest.testmod(roots).failed == 0
