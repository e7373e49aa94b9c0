"""Gram matrices equal those of the dense updates, whatever the block."""

import pytest
import torch

from lorascope.core import LoRA, collate, gram, layer_norms
from lorascope.errors import SignatureError
from tests.conftest import random_lora, random_pair


@pytest.fixture
def loras(generator):
    return [random_lora(generator, rank=1 + i % 3) for i in range(7)]


@pytest.fixture
def rows(loras):
    """(N, L, numbers) dense updates, padded with zeros."""
    width = max(pair.n * pair.m for pair in loras[0].layers.values())
    pad = torch.nn.functional.pad
    return torch.stack(
        [
            torch.stack(
                [pad(p.dense().flatten(), (0, width - p.n * p.m)) for p in lora.layers.values()]
            )
            for lora in loras
        ]
    )


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_raw_and_cosine_equal_the_dense_ones(loras, rows, block):
    batch = collate(loras)
    raw = torch.einsum("ald,bld->ab", rows, rows)
    torch.testing.assert_close(gram(batch, block=block), raw)
    unit = rows / rows.norm(dim=-1, keepdim=True)
    cosine = torch.einsum("ald,bld->ab", unit, unit) / rows.shape[1]
    torch.testing.assert_close(gram(batch, kind="cosine", block=block), cosine)
    torch.testing.assert_close(gram(batch, batch.select(slice(2, 5)), block=block), raw[:, 2:5])
    torch.testing.assert_close(
        gram(batch.select(slice(2, 5)), batch, kind="cosine", block=block), cosine[2:5]
    )


def test_norms_by_group(loras):
    batch = collate(loras)
    for (_, lora), row in zip(enumerate(loras), range(7), strict=True):
        found = torch.cat([x[:, row] for x in layer_norms(batch)])[batch.layer_order]
        torch.testing.assert_close(found, torch.stack(list(lora.norms().values())))


def test_zero_and_missing_layers_count_zero(loras):
    zero = 0.0 * loras[0]
    part = loras[1].select(["b.0.q"])
    batch = collate([loras[0], zero, part], loras[0].signature(), allow_missing=True)
    cosine = gram(batch, kind="cosine")
    assert cosine.isfinite().all()
    assert float(cosine[1].abs().max()) == 0.0
    assert float(cosine[2, 2]) == pytest.approx(1 / 4)


def test_half_precision_is_summed_in_float32(loras):
    batch = collate([lora.to(torch.bfloat16) for lora in loras])
    found = gram(batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), gram(batch.to(torch.float64)), rtol=1e-4, atol=1e-3)


def test_empty_batches(loras):
    batch = collate(loras)
    assert gram(batch.select([]), batch).shape == (0, 7)
    assert gram(batch.select([]), kind="cosine").shape == (0, 0)


def test_other_layers_are_refused(loras, generator):
    other = collate([LoRA({"x": random_pair(3, 3, 1, generator)})])
    with pytest.raises(SignatureError, match="expected one signature"):
        gram(collate(loras), other)


@pytest.mark.parametrize("kind", ["raw", "cosine"])
def test_loras_without_layers_give_zeros(loras, kind):
    full = collate(loras)
    none = collate([LoRA({}), LoRA({})], full.signature, allow_missing=True)
    assert none.rank == 0
    assert gram(none, full, kind=kind).tolist() == [[0.0] * 7] * 2
    assert gram(full, none, kind=kind).tolist() == [[0.0] * 2] * 7
    assert gram(none, kind=kind).tolist() == [[0.0] * 2] * 2
