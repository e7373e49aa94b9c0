import pytest
import torch

from lorascope.core import Symmetry, collate
from lorascope.errors import DataError, SignatureError
from lorascope.symmetry import (
    act,
    align,
    assert_invariant,
    invariance_error,
    procrustes,
    random_gauge,
    random_gauges,
)


def distance(batch, template):
    """Slow and plain: sum of |u - s|^2 + |v - t|^2 for each LoRA and layer."""
    return [
        (x.u - y.u).square().sum((-1, -2)) + (x.v - y.v).square().sum((-1, -2))
        for x, y in zip(batch.groups, template.groups, strict=True)
    ]


def test_it_recovers_the_template_from_its_orbit(draw):
    template = draw.batch(size=1)
    moved = act(random_gauges(template, generator=draw.generator, orthogonal=True), template)
    for group, target in zip(align(moved, template).groups, template.groups, strict=True):
        torch.testing.assert_close(group.u, target.u)
        torch.testing.assert_close(group.v, target.v)


def test_no_orthogonal_matrix_comes_nearer(draw):
    batch, template = draw.batch(), draw.batch(size=1)
    aligned = align(batch, template)
    best = distance(aligned, template)
    for _ in range(200):
        g = random_gauges(batch, generator=draw.generator, orthogonal=True)
        for ours, other in zip(best, distance(act(g, batch), template), strict=True):
            assert bool((ours <= other + 1e-9).all())
    # and no small rotation of the result either: it is a minimum, not only a good sample
    turn = torch.linalg.matrix_exp(1e-3 * torch.tensor([[0.0, 1, 2], [-1, 0, 3], [-2, -3, 0]]))
    turned = act([turn.double().expand(*g.u.shape[:2], 3, 3) for g in aligned.groups], aligned)
    for ours, other in zip(best, distance(turned, template), strict=True):
        assert bool((ours < other).all())


def test_the_update_stays(draw):
    batch, template = draw.ragged_batch(), draw.batch(size=1, rank=2)
    aligned = align(batch, template)
    for group, before in zip(aligned.groups, batch.groups, strict=True):
        torch.testing.assert_close(group.u.mT @ group.v, before.u.mT @ before.v)


def test_invariant_under_orthogonal_gauges_only(draw):
    batch, template = draw.batch(), draw.batch(size=1)
    assert_invariant(lambda x: align(x, template), batch, group=Symmetry.O)
    assert invariance_error(lambda x: align(x, template), batch, group=Symmetry.GL).error > 0.1


def test_lower_ranks_stay_invariant(draw):
    batch, template = draw.ragged_batch(), draw.batch(size=1, rank=4)
    assert_invariant(lambda x: align(x, template), batch, group=Symmetry.O)
    aligned = align(batch, template)
    # a rank below the template's spreads over all of its columns, a missing layer stays missing
    assert set(aligned.ranks[1].tolist()) == {4}
    assert torch.equal(aligned.ranks > 0, batch.ranks > 0)


def test_full_ranks_are_kept(draw):
    batch = draw.batch(rank=3)
    assert torch.equal(align(batch, draw.batch(size=1, rank=3)).ranks, batch.ranks)


def test_alone_or_in_a_batch(draw):
    batch, template = draw.batch(), draw.batch(size=1)
    alone = align(batch.select([2]), template)
    for group, one in zip(align(batch, template).groups, alone.groups, strict=True):
        torch.testing.assert_close(group.u[:, 2:3], one.u)


def test_procrustes_on_one_pair(draw):
    u, v = draw.normal(3, 8), draw.normal(3, 6)
    q = random_gauge(3, generator=draw.generator, orthogonal=True)
    torch.testing.assert_close(procrustes(u, v, q.mT @ u, q.mT @ v), q)


def test_bfloat16_input(draw):
    batch, template = draw.batch(), draw.batch(size=1)
    aligned = align(batch.to(torch.bfloat16), template.to(torch.bfloat16))
    assert aligned.dtype == torch.bfloat16
    error = (aligned.groups[0].u.double() - align(batch, template).groups[0].u).abs().max()
    assert float(error) < 0.1


def test_an_empty_batch(draw):
    template = draw.batch(size=1, rank=2)
    empty = collate([], template.signature, rank=2, dtype=torch.float64)
    assert align(empty, template).size == 0


def test_what_does_not_fit_is_refused(draw):
    batch = draw.batch()
    with pytest.raises(DataError, match="found 4 LoRAs as the template"):
        align(batch, batch)
    fewer = collate([draw.lora(2).select(["a.q"])])
    with pytest.raises(SignatureError, match="5 layers against 1"):
        align(batch, fewer)
