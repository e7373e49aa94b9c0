import warnings

import pytest
import torch

from lorascope.zoo.engine.image import quick
from lorascope.zoo.engine.image.quick_vae import QuickVAE

pytestmark = pytest.mark.skipif(quick.library() is None, reason="no C compiler")


def make_vae():
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = AutoencoderKL(
            sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            norm_num_groups=4,
        )
    return vae.eval().requires_grad_(False)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_decodes_as_the_vae_does(dtype, near):
    vae, latents = make_vae(), torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    wanted = vae.decode(latents).sample
    found = QuickVAE(vae, dtype).decode(latents).sample
    assert found.dtype == torch.float32
    assert float((found - wanted).norm() / wanted.norm()) < near
    assert torch.equal(vae.decode(latents).sample, wanted)  # the VAE itself is as it was


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_encodes_as_the_vae_does(dtype, near):
    vae, pictures = (
        make_vae(),
        torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
    )
    wanted = vae.encode(pictures).latent_dist.mean
    found = QuickVAE(vae, dtype).encode(pictures).latent_dist.mean
    assert found.dtype == torch.float32
    assert float((found - wanted).norm() / wanted.norm()) < near


def test_parts_give_what_the_whole_gives(monkeypatch):
    vae, latents = make_vae(), torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    fast = QuickVAE(vae, torch.float32)
    whole = fast.decode(latents).sample
    monkeypatch.setattr("lorascope.zoo.engine.image.quick_vae.PLACES", 2 * 256)
    assert torch.allclose(fast.decode(latents).sample, whole, atol=1e-5)
