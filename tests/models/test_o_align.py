"""O-Align: the template, what alignment undoes, what it does not."""

import torch

from lorascope.core import collate
from lorascope.models.mlp import flatten_factors
from lorascope.models.o_align import OAlign
from lorascope.symmetry import act, random_gauges
from tests.conftest import random_lora


def make(generator, count=6, rank=3):
    return collate([random_lora(generator, rank=rank) for _ in range(count)])


def test_the_template_is_one_training_lora_of_the_highest_rank(generator):
    loras = [random_lora(generator, rank=2) for _ in range(5)]
    loras.insert(3, random_lora(generator, rank=4))
    model = OAlign(loras[0].signature(), 1, rank=4).double()
    model.prepare(collate(loras))
    found = flatten_factors(model.template)
    torch.testing.assert_close(found, flatten_factors(collate([loras[3]])))


def test_the_seed_draws_the_template(generator):
    batch = make(generator, count=30)
    templates = []
    for seed in (0, 0, 1):
        model = OAlign(batch.signature, 1, rank=3, template_seed=seed).double()
        model.prepare(batch)
        templates.append(flatten_factors(model.template))
    assert torch.equal(templates[0], templates[1])
    assert not torch.equal(templates[0], templates[2])


def test_alignment_brings_a_rotated_template_home(generator):
    batch = make(generator)
    model = OAlign(batch.signature, 1, rank=3).double()
    model.prepare(batch.select([2]))
    moved = act(random_gauges(batch, generator=generator, orthogonal=True), batch)
    torch.testing.assert_close(model.vector(moved.select([2])), flatten_factors(model.template))


def test_alignment_never_moves_further_away(generator):
    batch = make(generator)
    model = OAlign(batch.signature, 1, rank=3).double()
    model.prepare(batch)
    template = flatten_factors(model.template)
    before = (flatten_factors(batch) - template).square().sum(1)
    after = (model.vector(batch) - template).square().sum(1)
    assert bool((after <= before + 1e-9).all())
    assert float(after.mean()) < 0.95 * float(before.mean())


def test_parameters_are_those_of_the_flat_mlp_and_the_template_is_stored(generator):
    batch = make(generator)
    model = OAlign(batch.signature, 2, rank=4, hidden=10, depth=1)
    width = 4 * (14 + 11 + 14 + 22)
    assert model.parameter_count == (width + 3) * 10 + 11 * 2
    stored = sum(v.numel() for k, v in model.state_dict().items() if k.startswith("template"))
    assert stored == width
