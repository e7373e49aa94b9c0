"""Transformer over layers: parts against their equations, positions, masks, parameters."""

import pytest
import torch

from lorascope.core import LoRA, collate
from lorascope.models.transformer import GatedMLP, Transformer, sinusoids
from tests.conftest import random_lora


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(6)])


def test_gated_mlp():
    mlp = GatedMLP(3, 5, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    gate = x @ mlp.gate.weight.T + mlp.gate.bias
    value = x @ mlp.value.weight.T + mlp.value.bias
    expected = (gate * gate.sigmoid() * value) @ mlp.out.weight.T + mlp.out.bias
    torch.testing.assert_close(mlp(x), expected)


def test_sinusoids():
    table = sinusoids(5, 4)
    assert table.shape == (5, 4)
    assert table[0].tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(table[3, 2], torch.tensor(3 / 100.0).sin())


@pytest.mark.parametrize("depth", [1, 2])
def test_parameter_count(batch, depth):
    d, k, r = 8, 2, 3
    model = Transformer(batch.signature, k, rank=r, width=d, depth=depth, heads=2)
    groups = sum(2 * (r * x + 1) * 2 * d + (2 * d + 1) * d for x in (14, 11, 22))
    block = 4 * d * d + 4 * d + 2 * 4 * d * d + 4 * d + d + 4 * d
    head = 2 * (4 * d + 1) * 2 * d + (2 * d + 1) * k
    assert model.parameter_count == groups + depth * block + head


def test_layers_of_one_shape_are_told_apart_by_position(batch):
    model = Transformer(batch.signature, 2, rank=3, width=8, depth=1, heads=2).double().eval()
    first = batch.groups[0]
    swapped = type(first)(first.u.flip(0), first.v.flip(0))
    moved = batch.with_groups([swapped, *batch.groups[1:]])
    assert (model(moved) - model(batch)).detach().abs().max() > 1e-3


def test_a_missing_layer_is_not_attended_to(batch):
    model = Transformer(batch.signature, 2, rank=3, width=8, depth=2, heads=2).double().eval()
    loras = [LoRA({k: v for k, v in x.layers.items() if k != "b.0.q"}) for x in batch.unbind()]
    partial = collate(loras, signature=batch.signature, allow_missing=True)
    *numbers, present = model.features(partial)
    expected = model.score((*numbers, present))
    numbers[0][:, 0] = 99.0  # what stands in the place of the missing layer
    torch.testing.assert_close(model.score((*numbers, present)), expected)


def test_numbers_are_standardised_per_layer(batch):
    model = Transformer(batch.signature, 2, rank=3).double()
    model.prepare(batch)
    *numbers, _ = model.features(batch)
    assert [x.shape for x in numbers] == [(6, 2, 42), (6, 1, 33), (6, 1, 66)]
    varied = numbers[0].std(0, correction=0)
    torch.testing.assert_close(varied, torch.ones_like(varied), rtol=0, atol=1e-5)
