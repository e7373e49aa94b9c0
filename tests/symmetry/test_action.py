import pytest
import torch

from lorascope.core import LoRA, LowRank, collate
from lorascope.errors import LayerError
from lorascope.symmetry import act, act_stacked, condition_numbers, random_gauge, random_gauges


def test_one_pair_keeps_its_update_and_changes_its_factors(draw):
    pair = draw.pair(7, 5, 3)
    g = random_gauge(3, generator=draw.generator)
    moved = act(g, pair)
    torch.testing.assert_close(moved.u, pair.u @ g)
    torch.testing.assert_close(moved.v, pair.v @ torch.linalg.inv(g).T)
    torch.testing.assert_close(moved.dense(), pair.dense())
    assert not torch.allclose(moved.u, pair.u)


def test_a_lora_and_its_batch_move_alike(draw):
    lora = draw.lora(rank=3)
    g = random_gauges(lora, generator=draw.generator)
    moved = act(g, lora)
    batch = collate([lora])
    names = batch.signature.names
    stacked = [
        torch.stack([g[names[i]][None] for i in x.indices]) for x in batch.signature.groups()
    ]
    other = act(stacked, batch).unbind()[0]
    for name in names:
        torch.testing.assert_close(moved[name].u, other[name].u)
        torch.testing.assert_close(moved[name].v, other[name].v)
        torch.testing.assert_close(moved[name].dense(), lora[name].dense())


def test_a_convolution_keeps_its_kernel(draw):
    pair = LowRank(torch.randn(4, 2), torch.randn(18, 2), kernel=(3, 3))
    assert act(torch.eye(2) * 2, pair).kernel == (3, 3)


def test_layers_without_a_gauge_stay(draw):
    lora = draw.lora(rank=2)
    name = next(iter(lora))
    moved = act({name: 2 * torch.eye(2, dtype=torch.float64)}, lora)
    torch.testing.assert_close(moved[name].u, 2 * lora[name].u)
    assert all(moved[other] is lora[other] for other in lora if other != name)


def test_padded_columns_stay_zero(draw):
    batch = draw.ragged_batch()
    moved = act(random_gauges(batch, generator=draw.generator), batch)
    for number, group in enumerate(moved.groups):
        padding = ~batch.rank_mask(number)
        assert not group.u[padding].any()
        assert not group.v[padding].any()
        product = group.u.mT @ group.v
        torch.testing.assert_close(product, batch.groups[number].u.mT @ batch.groups[number].v)
        assert not torch.allclose(group.u, batch.groups[number].u)


def test_gauges_of_a_ragged_batch_are_blocks(draw):
    batch = draw.ragged_batch()
    for orthogonal in (False, True):
        gauges = random_gauges(batch, generator=draw.generator, orthogonal=orthogonal)
        for number, g in enumerate(gauges):
            mask = batch.rank_mask(number)
            outside = ~(mask.unsqueeze(-1) & mask.unsqueeze(-2))
            identity = torch.eye(batch.rank, dtype=g.dtype).expand_as(g)
            torch.testing.assert_close(g[outside], identity[outside])
            if orthogonal:
                torch.testing.assert_close(g @ g.mT, identity)


@pytest.mark.parametrize("condition", [1.0, 4.0, 100.0])
def test_the_condition_number_is_bounded(draw, condition):
    g = random_gauge(5, generator=draw.generator, condition=condition, shape=(50,))
    numbers = torch.linalg.cond(g)
    assert float(numbers.max()) <= condition * (1 + 1e-9)
    if condition > 1:
        assert float(numbers.max()) > condition**0.5
    assert condition_numbers(g) == pytest.approx(float(numbers.max()))


def test_condition_of_collections(draw):
    assert condition_numbers({}) == 1.0
    assert condition_numbers(torch.empty(0, 0)) == 1.0
    assert condition_numbers([torch.eye(2), torch.diag(torch.tensor([1.0, 4.0]))]) == 4.0


def test_orthogonal_gauges_are_haar(draw):
    q = random_gauge(2, generator=draw.generator, orthogonal=True, shape=(4000,))
    torch.testing.assert_close(q @ q.mT, torch.eye(2, dtype=q.dtype).expand_as(q))
    # Haar measure: both components of O(2) alike, entries of mean 0 and second moment 1 / r
    assert abs(float(torch.linalg.det(q).mean())) < 0.06
    torch.testing.assert_close(q.mean(0), torch.zeros(2, 2).double(), atol=0.06, rtol=0)
    torch.testing.assert_close(
        q.square().mean(0), torch.full((2, 2), 0.5).double(), atol=0.04, rtol=0
    )


def test_the_same_generator_gives_the_same_gauge():
    a, b = (random_gauge(4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_goes_through_float32(draw, dtype):
    pair = draw.pair(8, 6, 2).to(dtype)
    g = random_gauge(2, generator=draw.generator, condition=3.0, dtype=torch.float32)
    moved = act(g, pair)
    assert moved.dtype == dtype
    error = (moved.dense().float() - pair.dense().float()).norm() / pair.dense().float().norm()
    assert float(error) < 8 * torch.finfo(dtype).eps


def test_gauges_have_at_least_float32(draw):
    lora = draw.lora(rank=2)
    assert next(iter(random_gauges(lora).values())).dtype == torch.float64
    assert random_gauges(collate([lora.to(torch.bfloat16)]))[0].dtype == torch.float32
    assert next(iter(random_gauges(lora.to(torch.bfloat16)).values())).dtype == torch.float32


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_zero_and_one(draw, rank):
    pair = draw.pair(4, 3, rank)
    moved = act(random_gauge(rank, generator=draw.generator), pair)
    torch.testing.assert_close(moved.dense(), pair.dense())


def test_an_empty_batch(draw):
    lora = draw.lora(rank=2)
    batch = collate([], lora.signature(), rank=2, dtype=torch.float64)
    assert act(random_gauges(batch), batch).size == 0


def test_what_does_not_fit_is_refused(draw):
    pair, lora = draw.pair(4, 3, 2), draw.lora(rank=2)
    batch = collate([lora])
    with pytest.raises(LayerError, match=r"found g \(3, 3\)"):
        act(torch.eye(3).double(), pair)
    with pytest.raises(LayerError, match="expected a tensor"):
        act({}, pair)
    with pytest.raises(LayerError, match="expected a mapping"):
        act(torch.eye(2), lora)
    with pytest.raises(LayerError, match="no layer 'other'"):
        act({"other": torch.eye(2)}, lora)
    with pytest.raises(LayerError, match="one tensor"):
        act(random_gauges(batch)[:1], batch)
    with pytest.raises(LayerError, match="rank 2 and 3"):
        act_stacked(torch.eye(2), torch.ones(2, 4), torch.ones(3, 4))


def test_a_lora_keeps_its_side_tensors_and_provenance(draw):
    lora = draw.lora(rank=2)
    moved = act(random_gauges(lora), lora)
    assert isinstance(moved, LoRA)
    assert moved.provenance == lora.provenance
    assert dict(moved.side) == dict(lora.side)
