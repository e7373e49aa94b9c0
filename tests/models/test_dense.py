"""MLP+Dense: entries against the dense updates, scales, size limit, parameters."""

import pytest
import torch

from lorascope.core import collate
from lorascope.errors import LayerError
from lorascope.models.dense import Dense
from tests.conftest import random_lora

ENTRIES = 2 * 48 + 30 + 72


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(6)])


def updates(batch):
    """Dense updates in the order of the shape groups: (b, n m) per layer."""
    order = [i for group in batch.signature.groups() for i in group.indices]
    names = [batch.signature.names[i] for i in order]
    loras = batch.unbind()
    return [torch.stack([lora[name].dense().flatten() for lora in loras]) for name in names]


def test_entries_are_those_of_the_updates(batch):
    model = Dense(batch.signature, 1, rank=3, unit_norm=False).double()
    torch.testing.assert_close(model.entries(batch), torch.cat(updates(batch), 1))


def test_typical_size_of_training_is_divided_out(batch):
    model = Dense(batch.signature, 1, rank=3, unit_norm=False).double()
    model.prepare(batch)
    expected = [x / x.square().mean().sqrt() for x in updates(batch)]
    torch.testing.assert_close(model.entries(batch), torch.cat(expected, 1), rtol=1e-5, atol=1e-5)
    zero = Dense(batch.signature, 1, rank=3, unit_norm=False).double()
    zero.prepare(batch.with_groups([type(g)(0 * g.u, g.v) for g in batch.groups]))
    assert bool((zero.scale == 1).all())


def test_unit_norm_divides_each_layer_by_its_own_size(batch):
    model = Dense(batch.signature, 1, rank=3).double()
    expected = [x / x.square().mean(1, keepdim=True).sqrt() for x in updates(batch)]
    torch.testing.assert_close(model.entries(batch), torch.cat(expected, 1))


def test_unit_norm_keeps_sizes_beside(batch):
    model = Dense(batch.signature, 1, rank=3).double().eval()
    model.prepare(batch)
    larger = batch.with_groups([type(g)(3 * g.u, g.v) for g in batch.groups])
    torch.testing.assert_close(model.entries(larger), model.entries(batch))
    assert (model(larger) - model(batch)).detach().abs().max() > 1e-3


@pytest.mark.parametrize("unit_norm", [False, True])
def test_parameter_count(batch, unit_norm):
    model = Dense(batch.signature, 2, rank=3, hidden=10, depth=2, unit_norm=unit_norm)
    expected = (ENTRIES + 3) * 10 + 13 * 10 + 11 * 2
    expected += unit_norm * ((4 + 1 + 3) * 10 + 11 * 2)
    assert model.parameter_count == expected


def test_layers_too_large_are_refused(batch):
    with pytest.raises(LayerError, match=r"198 entries.*first layer would take.*'gl_net'"):
        Dense(batch.signature, 1, rank=3, hidden=64, max_bytes=4 * 64 * ENTRIES - 1)
    Dense(batch.signature, 1, rank=3, hidden=64, max_bytes=4 * 64 * ENTRIES)
