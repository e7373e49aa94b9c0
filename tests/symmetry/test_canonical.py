import pytest
import torch

from lorascope.core import LoRA, LowRank, Symmetry, collate
from lorascope.errors import DataError
from lorascope.symmetry import (
    act,
    assert_invariant,
    canonical,
    canonical_stacked,
    invariance_error,
    margins,
    random_gauge,
)


@pytest.mark.parametrize("form", ["balanced", "left"])
def test_it_keeps_the_update_and_is_orthogonal(draw, form):
    pair = draw.pair(9, 7, 3)
    fixed = canonical(pair, form)
    torch.testing.assert_close(fixed.dense(), pair.dense())
    values = torch.linalg.svdvals(pair.dense())[:3]
    identity = torch.eye(3, dtype=torch.float64)
    left, right = fixed.u.T @ fixed.u, fixed.v.T @ fixed.v
    if form == "balanced":
        torch.testing.assert_close(left, torch.diag(values))
        torch.testing.assert_close(right, torch.diag(values))
    else:
        torch.testing.assert_close(left, torch.diag(values.square()))
        torch.testing.assert_close(right, identity)


@pytest.mark.parametrize("form", ["balanced", "left"])
def test_invariant_under_every_gauge(draw, form):
    for x in (draw.pair(9, 7, 3), draw.lora(rank=3), draw.batch(), draw.ragged_batch()):
        assert_invariant(lambda x: canonical(x, form), x)


def test_idempotent(draw):
    batch = draw.ragged_batch()
    once = canonical(batch)
    for a, b in zip(canonical(once).groups, once.groups, strict=True):
        torch.testing.assert_close(a.u, b.u)
        torch.testing.assert_close(a.v, b.v)


def test_batch_and_single_agree(draw):
    lora = draw.lora(rank=3)
    batched = canonical(collate([draw.lora(rank=4), lora])).unbind()[1]
    for name, pair in canonical(lora).layers.items():
        torch.testing.assert_close(batched[name].u, pair.u)
        torch.testing.assert_close(batched[name].v, pair.v)


def test_padding_stays_zero_at_the_end(draw):
    batch = draw.ragged_batch()
    for form in ("balanced", "left"):
        fixed = canonical(batch, form)
        for number, group in enumerate(fixed.groups):
            padding = ~batch.rank_mask(number)
            assert not group.u[padding].any()
            assert not group.v[padding].any()
            assert group.u[~padding].any()


def test_the_sign_rule_is_joint_and_positive(draw):
    x, y, s = canonical_stacked(draw.normal(50, 3, 9), draw.normal(50, 3, 7))
    vote = (x * x.abs()).sum(-1) + (y * y.abs()).sum(-1)
    assert bool((vote > 0).all())
    assert bool((s[..., :-1] >= s[..., 1:]).all())


def test_the_sign_rule_flips_less_than_the_largest_entry(draw):
    """The reason for the aggregate rule: 1 % noise, many directions of an update with clear gaps."""
    count, rank, n, m = 400, 3, 96, 96
    values = torch.tensor([4.0, 2.0, 1.0]).double().unsqueeze(-1)
    x = torch.linalg.qr(draw.normal(count, n, rank)).Q.mT
    y = torch.linalg.qr(draw.normal(count, m, rank)).Q.mT
    noisy = [t + 0.01 * t.square().mean().sqrt() * draw.normal(*t.shape) for t in (x, y)]
    clean, moved = canonical_stacked(x * values, y), canonical_stacked(noisy[0] * values, noisy[1])
    same = (clean.x * moved.x).sum(-1) > 0
    flips = int((~same).sum())

    def by_largest(form):
        place = form.x.abs().argmax(-1, keepdim=True)
        return form.x.gather(-1, place).sign()

    largest = int(((by_largest(clean) * by_largest(moved)).squeeze(-1) > 0).ne(same).sum())
    assert largest > 10
    assert flips * 2 < largest


def test_no_flip_under_exact_refactoring(draw):
    u, v = draw.normal(300, 4, 64), draw.normal(300, 4, 48)
    g = random_gauge(4, generator=draw.generator, shape=(300,))
    moved = canonical_stacked(g.mT @ u, torch.linalg.solve(g, v))
    assert float((moved.x - canonical_stacked(u, v).x).abs().max()) < 1e-8


def test_where_it_is_not_unique(draw):
    """Equal singular values: the update is kept, the columns are not determined; margins say so."""
    q, p = (torch.linalg.qr(draw.normal(6, 2)).Q for _ in range(2))
    pair = LowRank(q, p)
    error = invariance_error(canonical, pair, group=Symmetry.O, trials=10).error
    assert error > 0.01
    assert_invariant(lambda x: canonical(x).dense(), pair)
    gap, _ = margins(canonical_stacked(pair.u.T, pair.v.T))
    assert float(gap.max()) < 1e-9


def test_margins_of_a_clear_pair():
    u = torch.tensor([[4.0, 0, 0], [0, 1.0, 0]]).double()
    v = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).double()
    gap, vote = margins(canonical_stacked(u, v))
    torch.testing.assert_close(gap, torch.tensor([0.75, 0.75]).double())
    torch.testing.assert_close(vote, torch.ones(2).double())


def test_margins_see_a_vote_of_zero():
    u = torch.tensor([[1.0, -1.0]]).double()
    v = torch.tensor([[1.0, -1.0]]).double()
    assert float(margins(canonical_stacked(u, v)).vote) < 1e-12


@pytest.mark.parametrize(
    ("n", "m", "rank"), [(3, 8, 5), (8, 3, 5), (2, 2, 6), (4, 4, 0), (5, 4, 1)]
)
def test_ranks_above_the_width_and_small_ones(draw, n, m, rank):
    pair = draw.pair(n, m, rank)
    fixed = canonical(pair)
    assert fixed.rank == rank
    torch.testing.assert_close(fixed.dense(), pair.dense())
    assert int(fixed.u.any(0).sum()) == min(n, m, rank)


def test_a_deficient_pair_has_zero_columns(draw):
    pair = draw.pair(8, 6, 2)
    doubled = LowRank(torch.cat([pair.u, pair.u], 1), torch.cat([pair.v, pair.v], 1))
    fixed = canonical(doubled, "left")
    assert not fixed.u[:, 2:].any()
    assert not fixed.v[:, 2:].any()
    torch.testing.assert_close(fixed.dense(), doubled.dense())


def test_small_singular_values_keep_their_digits(draw):
    scale = torch.tensor([1.0, 1e-10]).double()
    x, y = (torch.linalg.qr(draw.normal(20, 2)).Q for _ in range(2))
    g = random_gauge(2, generator=draw.generator)
    moved = act(g, LowRank(x * scale, y))
    s = canonical_stacked(moved.u.T, moved.v.T).s
    torch.testing.assert_close(s, scale, rtol=1e-4, atol=0)


def test_types_and_wrappers(draw):
    lora = draw.lora(rank=2)
    half = canonical(lora.to(torch.bfloat16))
    assert isinstance(half, LoRA)
    assert half["a.q"].dtype == torch.bfloat16
    conv = LowRank(draw.normal(4, 2), draw.normal(18, 2), kernel=(3, 3))
    assert canonical(conv).kernel == (3, 3)
    assert canonical(collate([], lora.signature(), rank=2)).size == 0
    with pytest.raises(DataError, match="expected 'balanced' or 'left'"):
        canonical(lora, "right")
