"""The UNet of the faces base: an ordinary UNet2DConditionModel on 4 x 8 x 8 latents.

Attention stands at the deep level alone (4 x 4, 64 channels, in the down block, the middle and the
up block): 4 transformers, 16 matrices to_q and to_v, all of them 64 x 64. The two levels of 32 and
64 channels cost 21 million multiplications a pass.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,   loss = |e - unet(x_t, t, text)|^2,   text empty in 10 %
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.faces.clip import TEXT_WIDTH
from lorascope.zoo.bases.faces.loop import Plan, Progress, train
from lorascope.zoo.bases.faces.pictures import Pool
from lorascope.zoo.bases.faces.tokenizer import Words
from lorascope.zoo.bases.faces.vae import LATENT_CHANNELS

__all__ = ["TIMES", "UNET_STEPS", "new_scheduler", "new_unet", "noise_levels", "train_unet"]

CHANNELS = (32, 64)
LATENT_SIZE = 8
UNET_STEPS, BATCH, RATE, AVERAGE = 2700, 64, 2.5e-3, 0.998
UNSAID = 0.1  # captions left out, for classifier-free guidance
#: The schedule of Stable Diffusion 1: beta from low to high, linear in its square root.
BETAS = 0.00085, 0.012
TIMES = 1000
BLOCK = 250  # pictures encoded at once


def new_unet() -> Any:
    """An untrained UNet2DConditionModel.

    Raises:
        MissingExtraError: diffusers is not installed.
    """
    try:
        from diffusers import UNet2DConditionModel
    except ImportError as error:
        raise MissingExtraError("diffusers", "zoo", "training the UNet of faces") from error
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def new_scheduler() -> Any:
    """The sampler that the base comes with: DPM-Solver++ of second order, good from 4 steps on."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=TIMES,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def noise_levels() -> Tensor:
    """The schedule's a_t: (1000,) float32."""
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TIMES).square()
    return (1 - betas).cumprod(0)


def train_unet(
    pool: Pool,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    *,
    start: Any = None,
    seed: int = 0,
    steps: int = UNET_STEPS,
    rate: float = RATE,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """Train the UNet, from scratch or on from `start`, on the latents of a pool.

    The text encoder maps token ids (b, t) to an output whose first item is (b, t, 64).
    """
    torch.manual_seed(seed)
    unet = (new_unet() if start is None else start).train().requires_grad_(True)
    unet = unet.to(memory_format=torch.channels_last)
    words, latents, levels = Words(tokenizer), _encoded(pool, vae), noise_levels()

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pool), (BATCH,), generator=generator)
        with torch.no_grad():
            text = text_encoder(words.ids(_some(pool.captions(rows, generator), generator)))[0]
        mean, deviation = latents[rows].unbind(1)
        clean = mean + deviation * torch.randn(mean.shape, generator=generator)
        times = torch.randint(TIMES, (BATCH,), generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        level = levels[times][:, None, None, None]
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        return (unet(noisy, times, text).sample - noise).square().mean()

    plan = Plan("unet", steps, rate, seed, average=AVERAGE, checkpoint=checkpoint)
    return train(unet, loss_of, plan, progress).eval().requires_grad_(False)


@torch.no_grad()
def _encoded(pool: Pool, vae: Any) -> Tensor:
    """Scaled mean and deviation of every picture's latents: (p, 2, 4, 8, 8)."""
    parts = []
    for first in range(0, len(pool), BLOCK):
        rows = torch.arange(first, min(first + BLOCK, len(pool)))
        found = vae.encode(pool.pictures(rows)).latent_dist
        parts.append(torch.stack((found.mean, found.std), 1) * vae.config.scaling_factor)
    return torch.cat(parts)


def _some(captions: list[str], generator: torch.Generator) -> list[str]:
    """Captions with a tenth of them left out."""
    left_out = (torch.rand(len(captions), generator=generator) < UNSAID).tolist()
    return ["" if out else said for out, said in zip(left_out, captions, strict=True)]
