"""The VAE of the faces base: 3 x 32 x 32 pixels to 4 x 8 x 8 latents, an ordinary AutoencoderKL.

Two real down blocks at 16 and 24 channels, thin because they see many pixels. (Unshuffling pixels
outside the VAE trains faster, but then no StableDiffusionPipeline can decode the latents.)

    loss = L1 + 2 MSE + L1 of the differences between neighbours + 1e-3 KL

The differences make small things (a nose, a smile) count as much as wide backgrounds.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.faces.loop import Plan, Progress, train
from lorascope.zoo.bases.faces.pictures import Pool

__all__ = ["VAE_STEPS", "new_vae", "train_vae"]

CHANNELS = (16, 24, 48)
LATENT_CHANNELS = 4
VAE_STEPS, BATCH, RATE = 7000, 8, 2e-3
KL_WEIGHT = 1e-3


def new_vae() -> Any:
    """An untrained AutoencoderKL.

    Raises:
        MissingExtraError: diffusers is not installed.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise MissingExtraError("diffusers", "zoo", "training the VAE of the faces base") from error
    levels = len(CHANNELS)
    return AutoencoderKL(
        sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def train_vae(
    pool: Pool,
    *,
    seed: int = 0,
    steps: int = VAE_STEPS,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """Train the VAE on a pool of pictures; its scaling factor makes the latents' deviation 1."""
    torch.manual_seed(seed)
    vae = new_vae().to(memory_format=torch.channels_last)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pool), (BATCH,), generator=generator)
        pictures = pool.pictures(rows).contiguous(memory_format=torch.channels_last)
        latents = vae.encode(pictures).latent_dist
        error = vae.decode(latents.sample(generator)).sample - pictures
        kl = 0.5 * (latents.mean.square() + latents.var - 1 - latents.logvar).mean()
        pixels = error.abs().mean() + 2 * error.square().mean()
        return pixels + sum(error.diff(dim=d).abs().mean() for d in (2, 3)) + KL_WEIGHT * kl

    plan = Plan("vae", steps, RATE, seed, checkpoint=checkpoint)
    train(vae, loss_of, plan, progress)
    vae.eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=_scaling_factor(vae, pool))
    return vae


@torch.no_grad()
def _scaling_factor(vae: Any, pool: Pool) -> float:
    rows = torch.linspace(0, len(pool) - 1, min(len(pool), 512)).long()
    return round(1 / float(vae.encode(pool.pictures(rows)).latent_dist.mean.std()), 4)
