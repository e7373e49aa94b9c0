"""Pictures from a UNet, for one model or many at once: guided sampling in few steps.

    e        = (1 - w) e(empty) + w e(prompt)                          guidance w
    x0       = (x - s e) / a                                           a^2 + s^2 = 1, l = log(a / s)
    x_next   = s'/s x + a' (1 - exp(-h)) (x0 + h/(2 h_before) (x0 - x0_before)),    h = l' - l

This is DPM-Solver++ of second order (Lu et al. 2022, algorithm 2), equal to what diffusers'
scheduler of the same name does in a pipeline. It works number by number, so that `predict` may hold
any number of finetuned models and a batch equals its parts.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lorascope.zoo.bases.faces.unet import TIMES, noise_levels

__all__ = ["GUIDANCE", "STEPS", "Predict", "decode", "sample", "single"]

STEPS, GUIDANCE = 4, 3.0  # the CLIP scores of 4 steps are those of 20

#: Latents (..., 4, 8, 8) and a time -> the guided noise, of the same shape.
Predict = Callable[[Tensor, int], Tensor]


@torch.no_grad()
def sample(predict: Predict, noise: Tensor, steps: int = STEPS) -> Tensor:
    """Clean latents (..., 4, 8, 8) from noise of the same shape."""
    times = [round(TIMES - i * TIMES / steps) - 1 for i in range(steps)]
    level = noise_levels().double()[times]
    a, s = level.sqrt().tolist(), (1 - level).sqrt().tolist()
    log_ratio = (level.sqrt() / (1 - level).sqrt()).log()
    h = log_ratio.diff().tolist()
    x, before = noise, noise
    for i, time in enumerate(times):
        clean = (x - s[i] * predict(x, time)) / a[i]
        if i == steps - 1:
            return clean
        aim = clean if i == 0 else clean + h[i] / (2 * h[i - 1]) * (clean - before)
        x = s[i + 1] / s[i] * x - a[i + 1] * math.expm1(-h[i]) * aim
        before = clean
    return x


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
