"""The functions against diffusers' own UNet, float64."""

import pytest
import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image import network
from lorascope.zoo.engine.image.fit import fit_images
from lorascope.zoo.engine.image.frozen_unet import FrozenUNet
from lorascope.zoo.engine.image.network import contexts_of, denoise, lates_of
from tests.zoo.engine.image.conftest import WIDTH, make_base, make_job, make_unet, other_unet

CASES = [(make_unet, 8), (other_unet, 10), (other_unet, 12)]


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("make", "side"), CASES)
def test_without_adapters_it_is_the_unet(make, side):
    unet = make()
    frozen = FrozenUNet.of(unet, torch.float64)
    images, texts = randn(2, 3, 4, side, side), randn(2, 1, 7, WIDTH, seed=1)
    times = torch.tensor([[0, 5, 40], [9, 3, 1]])
    rows = texts.expand(2, 3, 7, WIDTH).flatten(0, 1)
    wanted = unet(images.flatten(0, 1), times.flatten(), rows).sample
    clock = frozen.clock(times.flatten()).double().view(2, 3, -1)
    contexts = contexts_of(frozen.plan, frozen.weights, {}, texts)
    lates = lates_of(frozen.plan, frozen.weights, {}, clock)
    found = denoise(frozen.plan, frozen.weights, {}, images, lates, contexts)
    assert torch.allclose(found.flatten(0, 1), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("make", "side"), CASES)
def test_rows_are_doubled_where_the_text_comes_in(make, side):
    unet = make()
    frozen = FrozenUNet.of(unet, torch.float64)
    images, texts = randn(2, 3, 4, side, side), randn(2, 4, 7, WIDTH, seed=1)
    which = torch.tensor([0, 0, 0, 3, 1, 2])
    twice = images.repeat(1, 2, 1, 1, 1).flatten(0, 1)
    wanted = unet(twice, 11, texts[:, which].flatten(0, 1)).sample
    lates = {name: late.expand(2, -1, -1) for name, late in frozen.lates(11).items()}
    contexts = contexts_of(frozen.plan, frozen.weights, {}, texts)
    found = denoise(frozen.plan, frozen.weights, {}, images, lates, contexts, which)
    assert torch.allclose(found.flatten(0, 1), wanted, rtol=1e-10, atol=1e-12)


def test_attention_over_many_places_is_the_same_and_learns_the_same(monkeypatch):
    base, jobs = make_base(make_unet()), [make_job(seed) for seed in range(2)]
    spec = AdapterSpec(("to_q", "to_v"), rank=2, alpha=4.0)
    plain = fit_images(base, spec, jobs)
    monkeypatch.setattr(network, "LARGE", 0)  # as for latents of 64 x 64
    large = fit_images(base, spec, jobs)
    assert not torch.equal(plain.rows, large.rows)
    assert torch.allclose(plain.rows, large.rows, rtol=1e-8, atol=1e-10)
