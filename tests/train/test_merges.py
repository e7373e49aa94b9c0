import torch

from lorascope.core.batch import collate
from lorascope.train.merges import DENSITY, merges, ties
from tests.planted import planted_loras

LORAS = planted_loras(8)[0]
BATCH = collate(LORAS)


def made(batch=BATCH, seed=0):
    return merges(batch, torch.Generator().manual_seed(seed))


def dense(batch):
    """The updates of the layers of each shape, (l, b, n, m)."""
    return [group.u.mT @ group.v for group in batch.groups]


def partners(found):
    """Which LoRA each is merged with, read off a sum of two: all layers must agree."""
    rows = []
    for number in range(BATCH.size):
        gaps = [
            max(
                float((total[:, number] - own[:, number] - own[:, other]).abs().max())
                for total, own in zip(dense(found["sum of 2"]), dense(BATCH), strict=True)
            )
            for other in range(BATCH.size)
        ]
        assert min(gaps) < 1e-4
        rows.append(gaps.index(min(gaps)))
    return rows


def test_every_lora_is_merged_with_another_than_itself():
    rows = partners(made())
    assert sorted(rows) == list(range(BATCH.size))
    assert all(row != number for number, row in enumerate(rows))


def test_weighted_means_lie_between_their_loras():
    found = made()
    rows = partners(found)
    mean = found["weighted mean of 2"]
    assert mean.rank == 2 * BATCH.rank
    shares = []
    for merged, own in zip(dense(mean), dense(BATCH), strict=True):
        towards = own[:, rows] - own
        share = ((merged - own) * towards).sum((0, 2, 3)) / towards.square().sum((0, 2, 3))
        torch.testing.assert_close(
            merged, own + share[:, None, None] * towards, rtol=1e-3, atol=1e-3
        )
        shares.append(share)
    torch.testing.assert_close(shares[0], shares[1], rtol=1e-3, atol=1e-3)  # one weight a LoRA
    assert bool(((shares[0] > 0) & (shares[0] < 1)).all())
    assert float(shares[0].std()) > 0.05


def test_a_concatenation_that_is_truncated_is_the_best_of_its_rank():
    found = made()
    cut = found["sum of 3, old rank"]
    assert (found["sum of 3"].rank, cut.rank) == (3 * BATCH.rank, BATCH.rank)
    for merged, whole in zip(dense(cut), dense(found["sum of 3"]), strict=True):
        u, s, v = torch.linalg.svd(whole)
        r = BATCH.rank
        best = (u[..., :r] * s[..., None, :r]) @ v[..., :r, :]
        torch.testing.assert_close(merged, best, rtol=1e-3, atol=1e-3)


def test_means_of_factors_have_cross_terms():
    found = made()
    rows = partners(found)
    for group, own in zip(found["mean of factors of 2"].groups, BATCH.groups, strict=True):
        torch.testing.assert_close(group.u, (own.u + own.u[:, rows]) / 2)
        torch.testing.assert_close(group.v, (own.v + own.v[:, rows]) / 2)


def test_ties_trims_elects_and_takes_the_mean_of_those_that_agree():
    updates = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    kept = round(DENSITY * 30)
    trimmed = []
    for update in updates:
        least = sorted(abs(float(x)) for x in update.flatten())[-kept]
        trimmed.append([[float(x) if abs(x) >= least else 0.0 for x in row] for row in update])
    found = ties(updates)
    for i in range(5):
        for j in range(6):
            column = [matrix[i][j] for matrix in trimmed]
            sign = (sum(column) > 0) - (sum(column) < 0)
            agree = [x for x in column if x * sign > 0]
            expected = sum(agree) / len(agree) if agree else 0.0
            assert abs(float(found[i, j]) - expected) < 1e-6


def test_ties_of_loras_is_that_of_their_updates_at_the_old_rank():
    found = made()
    rows = partners(found)
    for merged, own in zip(dense(found["TIES of 2"]), dense(BATCH), strict=True):
        u, s, v = torch.linalg.svd(ties(torch.stack([own, own[:, rows]])))
        r = BATCH.rank
        best = (u[..., :r] * s[..., None, :r]) @ v[..., :r, :]
        torch.testing.assert_close(merged, best, rtol=1e-3, atol=1e-3)


def test_layers_that_are_missing_and_ranks_above_the_width_are_merged_too():
    part = [LORAS[0].select(["block.0.q"]), *LORAS[1:3]]
    batch = collate(part, LORAS[0].signature(), allow_missing=True).pad(20)
    for name, found in made(batch).items():
        assert all(bool(x.isfinite().all()) for g in found.groups for x in (g.u, g.v)), name
        assert found.ranks.shape == batch.ranks.shape


def test_the_same_seed_gives_the_same_merges():
    one, two = (made(seed=3)["weighted mean of 3"].groups[0].u for _ in range(2))
    assert torch.equal(one, two)
