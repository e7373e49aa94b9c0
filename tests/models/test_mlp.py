"""The flat MLP: the vector that it reads, ranks, parameters, and that random gauges blind it."""

import torch

from lorascope.core import collate
from lorascope.models.mlp import MLP, at_rank, flatten_factors
from lorascope.symmetry import act, random_gauges
from tests.conftest import random_lora


def make(generator, count=6, rank=3):
    return collate([random_lora(generator, rank=rank) for _ in range(count)])


def test_every_number_of_the_factors_is_read_once(generator):
    batch = make(generator)
    flat = flatten_factors(batch)
    loras = batch.unbind()
    assert flat.shape == (6, 3 * (14 + 11 + 14 + 22))
    for row, lora in enumerate(loras):
        numbers = torch.cat([x.flatten() for p in lora.layers.values() for x in (p.u, p.v)])
        found = flat[row][flat[row] != 0]
        torch.testing.assert_close(found.sort().values, numbers.sort().values)


def test_ranks_are_padded_and_padding_is_cut(generator):
    batch = make(generator)
    assert at_rank(batch, 5).rank == 5
    cut = at_rank(batch.pad(7), 3)
    assert cut.rank == 3
    assert torch.equal(cut.groups[0].u, batch.groups[0].u)


def test_parameter_count(generator):
    batch = make(generator)
    model = MLP(batch.signature, 2, rank=4, hidden=10, depth=3)
    width = 4 * (14 + 11 + 14 + 22)
    assert model.parameter_count == (width + 3) * 10 + 2 * 13 * 10 + 11 * 2


def test_training_vectors_are_standardised(generator):
    batch = make(generator, count=40)
    tiny = batch.with_groups([type(g)(1e-6 * g.u, g.v) for g in batch.groups])
    model = MLP(batch.signature, 2, rank=3).double()
    model.prepare(tiny)
    varied = model.features(tiny).std(0, correction=0)
    real = flatten_factors(tiny).abs().sum(0) > 0
    torch.testing.assert_close(varied, real.double(), rtol=0, atol=1e-6)


def test_the_gauge_is_part_of_what_it_reads(generator):
    batch = make(generator)
    model = MLP(batch.signature, 2, rank=3).double().eval()
    moved = act(random_gauges(batch, generator=generator, orthogonal=True), batch)
    gap = (model(moved) - model(batch)).detach().abs().max()
    assert gap > 1e-2
