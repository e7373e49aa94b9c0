"""MLP+SVD: what it reads, how it takes other ranks, parameters."""

import torch

from lorascope.core import collate
from lorascope.models.svd import SVD
from tests.conftest import random_lora


def make(generator, rank=3, count=6):
    return collate([random_lora(generator, rank=rank) for _ in range(count)])


def test_parameter_count(generator):
    batch = make(generator)
    model = SVD(batch.signature, 2, rank=3, hidden=10, depth=2)
    width = 4 * (3 + 1) + 1
    assert model.parameter_count == (width + 3) * 10 + 13 * 10 + 11 * 2


def test_raw_and_log_values_are_two_inputs_of_the_same_facts(generator):
    batch = make(generator)
    raw = SVD(batch.signature, 1, rank=3, logarithm=False).double()
    logs = SVD(batch.signature, 1, rank=3).double()
    for model in (raw, logs):
        model.prepare(batch)
    total_raw, total_log = raw.features(batch)[:, -1], logs.features(batch)[:, -1]
    assert torch.equal(total_raw.argsort(), total_log.argsort())
    assert not torch.allclose(total_raw, total_log)


def test_a_higher_rank_is_cut_to_its_largest_values_but_not_its_norm(generator):
    wide = make(generator, rank=5)
    model = SVD(wide.signature, 1, rank=3, logarithm=False).double()
    assert model.max_rank is None
    first = model.features(wide)[:, :4]  # three values and the norm of the layer b.0.q
    s = torch.stack([torch.linalg.svdvals(x["b.0.q"].dense())[:5] for x in wide.unbind()])
    torch.testing.assert_close(first[:, :3], s[:, :3])
    torch.testing.assert_close(first[:, 3], s.norm(dim=1))


def test_directions_are_not_seen(generator):
    batch = make(generator)
    model = SVD(batch.signature, 1, rank=3).double().eval()
    turn = [
        torch.linalg.qr(torch.randn(g.n, g.n, generator=generator).double()).Q for g in batch.groups
    ]
    turned = batch.with_groups(
        [type(g)(g.u @ q, g.v) for g, q in zip(batch.groups, turn, strict=True)]
    )
    torch.testing.assert_close(model(turned), model(batch))
