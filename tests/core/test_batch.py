"""Batches: stacking by name, ragged ranks, missing layers, and the way back."""

import pytest
import torch

from lorascope.core import LoRA, Signature, collate, concat
from lorascope.errors import DataError, RankError, SignatureError
from tests.conftest import random_lora, random_pair


@pytest.fixture
def loras(generator):
    return [random_lora(generator), random_lora(generator, rank=1), random_lora(generator, rank=2)]


def assert_same(a: LoRA, b: LoRA) -> None:
    assert set(a) == set(b)
    for name in a:
        assert a[name].rank == b[name].rank
        assert torch.equal(a[name].dense(), b[name].dense())


def test_layout_and_ranks(loras):
    batch = collate(loras)
    assert (batch.size, len(batch), batch.rank, batch.dtype) == (3, 3, 3, torch.float64)
    assert [tuple(g.u.shape) for g in batch.groups] == [(2, 3, 3, 8), (1, 3, 3, 5), (1, 3, 3, 4)]
    assert [(g.n, g.m) for g in batch.groups] == [(8, 6), (5, 6), (4, 18)]
    assert batch.ranks.tolist() == [[3, 1, 3, 2], [1, 1, 1, 2], [2, 1, 2, 2]]
    for group in batch.groups:
        assert group.u.is_contiguous()
    assert batch.nbytes == sum(g.u.nbytes + g.v.nbytes for g in batch.groups)


def test_the_update_is_that_of_each_lora(loras):
    batch = collate(loras)
    for number, group in enumerate(batch.signature.groups()):
        update = torch.einsum("lbrn,lbrm->lbnm", batch.groups[number].u, batch.groups[number].v)
        for place, index in enumerate(group.indices):
            for row, lora in enumerate(loras):
                name = batch.signature.layers[index].name
                torch.testing.assert_close(update[place, row], lora[name].dense())


def test_unbind_is_the_way_back(loras):
    for lora, again in zip(loras, collate(loras, rank=5).unbind(), strict=True):
        assert_same(lora, again)


def test_order_in_the_file_does_not_matter(loras):
    turned = [lora.select(list(lora)[::-1]) for lora in loras]
    a, b = collate(loras), collate(turned, loras[0].signature())
    assert torch.equal(a.ranks, b.ranks)
    assert all(torch.equal(x.u, y.u) for x, y in zip(a.groups, b.groups, strict=True))


def test_missing_layers_are_zero_and_known(loras):
    part = loras[1].select(["b.0.q", "b.1.conv"])
    signature = loras[0].signature()
    with pytest.raises(SignatureError, match="is missing"):
        collate([loras[0], part])
    batch = collate([loras[0], part], signature, allow_missing=True)
    assert batch.present.tolist() == [[True] * 4, [True, False, False, True]]
    assert_same(part, batch.unbind()[1])


def test_rank_mask_marks_real_columns(loras):
    mask = collate(loras).rank_mask(0)
    assert mask.shape == (2, 3, 3)
    assert mask[0].tolist() == [[True] * 3, [True, False, False], [True, True, False]]


def test_layer_order_restores_the_signature(loras):
    batch = collate(loras)
    names = [batch.signature.layers[i].name for g in batch.signature.groups() for i in g.indices]
    assert [names[i] for i in batch.layer_order.tolist()] == list(batch.signature.names)


def test_select_pad_and_concat(loras):
    batch = collate(loras)
    for rows in ([2, 0], torch.tensor([2, 0]), slice(0, 2)):
        chosen = batch.select(rows)
        expected = [loras[2], loras[0]] if not isinstance(rows, slice) else loras[:2]
        for lora, again in zip(expected, chosen.unbind(), strict=True):
            assert_same(lora, again)
    joined = concat([collate(loras[1:2]), batch])
    assert joined.rank == 3
    for lora, again in zip([loras[1], *loras], joined.unbind(), strict=True):
        assert_same(lora, again)
    with pytest.raises(RankError, match="expected at least 3"):
        batch.pad(2)


def test_types_and_devices(loras, generator):
    half = random_lora(generator, dtype=torch.bfloat16)
    single = random_lora(generator, dtype=torch.float32)
    assert collate([half]).dtype == torch.bfloat16
    assert collate([half, single]).dtype == torch.float32
    moved = collate([half], dtype=torch.float32, device="cpu").to(torch.float64, "cpu")
    assert moved.dtype == torch.float64
    assert moved.device == torch.device("cpu")
    assert moved.with_groups(moved.groups).size == 1


def test_an_empty_batch_has_its_shapes(loras):
    batch = collate([], loras[0].signature(), rank=2)
    assert batch.groups[0].u.shape == (2, 0, 2, 8)
    assert batch.unbind() == []
    assert collate([], Signature(())).rank == 0
    assert collate([], Signature(())).dtype == torch.float32
    with pytest.raises(DataError, match="none and no signature"):
        collate([])
    with pytest.raises(DataError, match="at least one"):
        concat([])


def test_rank_above_the_limit_names_the_layer(loras):
    with pytest.raises(RankError, match=r"layer 'b\.0\.q' has rank 3, expected at most 2"):
        collate(loras, rank=2)


def test_layers_of_other_sizes_name_the_layer(loras, generator):
    other = LoRA({**loras[0].layers, "b.0.q": random_pair(7, 6, 1, generator)})
    with pytest.raises(SignatureError, match=r"'b\.0\.q' is 7 x 6, expected 8 x 6"):
        collate([loras[0], other])
