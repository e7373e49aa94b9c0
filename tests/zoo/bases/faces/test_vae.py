"""The VAE: a genuine AutoencoderKL at a quarter of the size, that learns to rebuild."""

import pytest
import torch

from lorascope.zoo.bases.faces.pictures import FIRST, draw_pool
from lorascope.zoo.bases.faces.vae import new_vae, train_vae


@pytest.fixture(scope="module")
def pool():
    return draw_pool(FIRST, 40, 0)


def test_latents_are_four_by_eight_by_eight():
    latents = new_vae().encode(torch.zeros(2, 3, 32, 32)).latent_dist.mean
    assert latents.shape == (2, 4, 8, 8)


def test_training_lowers_the_loss_and_scales_the_latents(pool):
    told = []
    vae = train_vae(pool, steps=20, progress=lambda *said: told.append(said[3]))
    assert sum(told[-3:]) < 0.8 * sum(told[:3])
    with torch.no_grad():
        latents = vae.encode(pool.pictures(torch.arange(40))).latent_dist.mean
    assert float(latents.std()) * vae.config.scaling_factor == pytest.approx(1, abs=0.01)
    assert not any(p.requires_grad for p in vae.parameters())


def test_equal_seeds_train_equal_vaes(pool):
    first, again, other = (train_vae(pool, seed=seed, steps=2) for seed in (1, 1, 2))
    weights = [vae.decoder.conv_in.weight for vae in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
