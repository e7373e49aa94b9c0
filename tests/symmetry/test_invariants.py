import pytest
import torch

from lorascope.core import GroupBatch, LowRank, collate
from lorascope.errors import DataError, SignatureError
from lorascope.symmetry import (
    assert_invariant,
    effective_ranks,
    inner_products,
    invariance_error,
    layer_norms,
    norms,
    projected_products,
    random_gauge,
    singular_values,
    spectra,
)
from lorascope.symmetry.roots import gram_roots


def dense(batch):
    """Slow and plain: (b, l) updates in signature order."""
    return [
        [lora[name].dense() if name in lora.layers else None for name in batch.signature.names]
        for lora in batch.unbind()
    ]


def table(batch, function):
    return torch.stack([torch.stack([function(x) for x in row]) for row in dense(batch)])


def test_norms(draw):
    batch = draw.batch()
    torch.testing.assert_close(norms(batch), table(batch, torch.linalg.matrix_norm))
    assert_invariant(norms, batch)


@pytest.mark.parametrize("route", ["qr", "gram"])
def test_spectra(draw, route):
    batch = draw.batch()
    expected = table(batch, lambda x: torch.linalg.svdvals(x)[:3])
    torch.testing.assert_close(spectra(batch, route=route), expected)
    assert_invariant(lambda x: spectra(x, route=route), batch)


@pytest.mark.parametrize("route", ["qr", "gram"])
def test_ragged_ranks_and_missing_layers(draw, route):
    batch = draw.ragged_batch()
    values = spectra(batch, route=route)
    for row, lora in enumerate(batch.unbind()):
        for place, name in enumerate(batch.signature.names):
            rank = int(batch.ranks[row, place])
            if rank:
                expected = lora[name].singular_values()
                torch.testing.assert_close(values[row, place, :rank], expected)
            assert float(values[row, place, rank:].abs().sum()) < 1e-6
    assert bool((norms(batch)[batch.ranks == 0] == 0).all())
    tolerance = 1e-9 if route == "qr" else 1e-6
    assert_invariant(lambda x: spectra(x, route=route), batch, tolerance=tolerance)


def test_the_qr_route_keeps_what_the_gram_route_loses(draw):
    scale = torch.tensor([1.0, 1e-10]).double()
    x, y = (torch.linalg.qr(draw.normal(30, 2)).Q for _ in range(2))
    g = random_gauge(2, generator=draw.generator)
    u, v = (x * scale @ g).T, torch.linalg.solve(g, y.T)
    torch.testing.assert_close(singular_values(u, v), scale, rtol=1e-4, atol=0)
    lost = singular_values(u, v, route="gram")[1] / scale[1] - 1
    assert abs(float(lost)) > 0.1
    # for float32 factors both routes are as good as the factors
    for route in ("qr", "gram"):
        single = singular_values(u.float(), v.float(), route=route)
        torch.testing.assert_close(single[0], scale[0].float())


def test_inner_products(draw):
    a, b = draw.batch(), draw.batch()
    left, right = dense(a), dense(b)
    expected = torch.tensor(
        [
            [float((x * y).sum()) for x, y in zip(*rows, strict=True)]
            for rows in zip(left, right, strict=True)
        ]
    ).double()
    torch.testing.assert_close(inner_products(a, b), expected)
    torch.testing.assert_close(inner_products(a, a), norms(a).square())
    torch.testing.assert_close(inner_products(a, b.select([1]))[1], expected[1])
    assert_invariant(lambda x: inner_products(x, b), a)


def test_inner_products_refuse_what_does_not_fit(draw):
    a = draw.batch(size=4)
    with pytest.raises(DataError, match="found 4 and 3"):
        inner_products(a, draw.batch(size=3))
    with pytest.raises(SignatureError, match="one signature"):
        inner_products(a, collate([draw.lora(2).select(["a.q"])]))


def test_projected_products(draw):
    batch = draw.batch()
    phi = [draw.normal(g.u.shape[0], g.n, 2) for g in batch.groups]
    psi = [draw.normal(g.u.shape[0], g.m, 4) for g in batch.groups]
    found = projected_products(batch.groups, phi, psi)
    expected = torch.cat(
        [
            torch.einsum("lnc,lbrn,lbrm,lmd->blcd", p, g.u, g.v, q)
            for g, p, q in zip(batch.groups, phi, psi, strict=True)
        ],
        dim=1,
    )
    torch.testing.assert_close(found, expected)
    assert_invariant(lambda x: projected_products(x.groups, phi, psi), batch)


def test_effective_ranks():
    values = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).double()
    torch.testing.assert_close(effective_ranks(values), torch.tensor([3.0, 1, 0]).double())
    pair = LowRank(torch.diag(torch.tensor([3.0, 2, 1])).double(), torch.eye(3).double())
    torch.testing.assert_close(effective_ranks(pair.singular_values()), pair.effective_rank())


def test_repeated_singular_values(draw):
    q, p = (torch.linalg.qr(draw.normal(6, 3)).Q for _ in range(2))
    for route in ("qr", "gram"):
        torch.testing.assert_close(singular_values(q.T, p.T, route=route), torch.ones(3).double())


def test_rank_above_the_width(draw):
    u, v = draw.normal(5, 3), draw.normal(5, 8)
    for route in ("qr", "gram"):
        values = singular_values(u, v, route=route)
        torch.testing.assert_close(values[:3], torch.linalg.svdvals(u.T @ v))
        assert float(values[3:].abs().max()) < 1e-6


def test_bfloat16_gives_float32(draw):
    batch = draw.batch().to(torch.bfloat16)
    assert (
        norms(batch).dtype
        == spectra(batch).dtype
        == inner_products(batch, batch).dtype
        == torch.float32
    )
    torch.testing.assert_close(spectra(batch), spectra(batch.to(torch.float64)).float())


def test_empty_and_rank_zero(draw):
    signature = draw.batch().signature
    empty = collate([], signature, rank=2, dtype=torch.float64)
    assert spectra(empty).shape == (0, 5, 2)
    assert norms(empty).shape == (0, 5)
    nothing = collate([draw.lora(0)], signature)
    assert spectra(nothing).shape == (1, 5, 0)
    assert not norms(nothing).any()


def test_unknown_route(draw):
    with pytest.raises(DataError, match="route 'fast'"):
        singular_values(draw.normal(2, 3), draw.normal(2, 3), route="fast")


def test_factors_themselves_are_not_invariant(draw):
    assert invariance_error(lambda x: x.groups[0].u.norm(), draw.batch()).error > 0.01


def test_roots_that_are_known_are_not_taken_again(draw):
    batch = draw.ragged_batch()
    doubled = gram_roots(batch.with_groups([GroupBatch(2 * g.u, g.v) for g in batch.groups]))
    torch.testing.assert_close(spectra(batch, roots=doubled), 2 * spectra(batch))


def test_an_update_that_cancels_has_norm_zero(draw):
    pair = draw.pair(9, 7, 3)
    gone = pair + (-1.0) * pair
    assert float(layer_norms(gone.u.T, gone.v.T)) == 0.0
    assert float(layer_norms(gone.u.T.float(), gone.v.T.float())) == 0.0
    small = pair + (-1.0 + 1e-6) * pair
    torch.testing.assert_close(
        layer_norms(small.u.T, small.v.T), 1e-6 * pair.norm(), rtol=1e-6, atol=0
    )
