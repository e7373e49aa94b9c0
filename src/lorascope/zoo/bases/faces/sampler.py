"""Pictures from a UNet, for one model or many at once: guided sampling in few steps.

    e = (1 - w) e(empty) + w e(prompt)

`predict` may hold any number of finetuned models: latents have a free leading shape (..., 4, 8, 8),
and the solver works number by number, so a batch equals its parts.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["GUIDANCE", "STEPS", "Predict", "decode", "sample", "single"]

STEPS, GUIDANCE = 8, 3.0

#: Latents (..., 4, 8, 8) and a time -> the guided noise, of the same shape.
Predict = Callable[[Tensor, int], Tensor]


@torch.no_grad()
def sample(predict: Predict, noise: Tensor, scheduler: Any, steps: int = STEPS) -> Tensor:
    """Clean latents (..., 4, 8, 8) from noise of the same shape, by a diffusers scheduler."""
    scheduler.set_timesteps(steps)
    latents = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, time)
        latents = scheduler.step(predict(scaled, int(time)), time, latents).prev_sample
    return latents


@torch.no_grad()
def decode(latents: Tensor, vae: Any) -> Tensor:
    """Pictures in [-1, 1] of latents (..., 4, 8, 8): (..., 3, 32, 32)."""
    flat = latents.reshape(-1, *latents.shape[-3:]) / vae.config.scaling_factor
    pictures = vae.decode(flat).sample.clamp(-1, 1)
    return pictures.reshape(*latents.shape[:-3], *pictures.shape[1:])


def single(unet: Any, text: Tensor, empty: Tensor, guidance: float = GUIDANCE) -> Predict:
    """The guided noise of one UNet for texts (b, t, 64) and the empty text (1, t, 64)."""
    both = torch.cat((empty.expand_as(text), text))

    def predict(latents: Tensor, time: int) -> Tensor:
        without, with_ = unet(latents.repeat(2, 1, 1, 1), time, both).sample.chunk(2)
        return without + guidance * (with_ - without)

    return predict
