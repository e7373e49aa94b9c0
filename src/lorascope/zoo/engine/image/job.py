"""What one adapter of an image model is finetuned on: plain values, no training.

step: draw `batch_size` of the latents x_0, a time t and noise e for each, from the job's own seed
x_t  = sqrt(a_t) x_0 + sqrt(1 - a_t) e
loss = mean of |e - unet(x_t, t, text of the prompt)|^2
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.errors import DataError

__all__ = ["ImageJob"]


@dataclass(frozen=True, eq=False)
class ImageJob:
    """Everything that determines one adapter of a UNet; grouped with anything, it is the same.

    The learning rate is constant, as in DreamBooth; AdamW with betas (.9, .999), eps 1e-8; the
    gradient of the adapter is clipped to `clip_norm`.
    """

    seed: int
    latents: Tensor  # (examples, c, h, w) float32: scaled means of the VAE
    prompt: Tensor  # (t,) int64: token ids of the one prompt of all examples
    learning_rate: float
    weight_decay: float
    steps: int
    batch_size: int
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise DataError(f"making the finetuning job of seed {self.seed}: {problem}")

    def _problem(self) -> str:
        shape = tuple(self.latents.shape)
        if len(shape) != 4 or 0 in shape or self.latents.dtype != torch.float32:
            return (
                f"found latents {shape} of {self.latents.dtype}, expected (examples, c, h, w) of "
                "float32 that are not empty. Try the VAE's scaled means"
            )
        if self.prompt.ndim != 1 or self.prompt.dtype != torch.int64:
            return (
                f"found a prompt {tuple(self.prompt.shape)} of {self.prompt.dtype}, expected token "
                "ids (t,) of int64. Try one row of token_ids(...)"
            )
        if self.steps < 1 or self.batch_size < 1:
            return f"found steps {self.steps} and batch_size {self.batch_size}, expected at least 1"
        return ""
