"""How well pictures fit texts and other pictures, by the base's own CLIP.

    score = 100 max(cos(picture, text), 0), the mean over pictures

as torchmetrics' clip_score has it. Leading shapes are free: the pictures of many finetuned models
are scored at once.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["clip_score", "fidelity", "image_features", "text_features"]


@torch.no_grad()
def image_features(clip: Any, pictures: Tensor) -> Tensor:
    """Unit features of pictures (..., 3, 32, 32) in [-1, 1]: (..., k)."""
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    pooled = clip.vision_model(pixel_values=flat).pooler_output
    unit = torch.nn.functional.normalize(clip.visual_projection(pooled), dim=-1)
    return unit.reshape(*pictures.shape[:-3], -1)


@torch.no_grad()
def text_features(clip: Any, ids: Tensor) -> Tensor:
    """Unit features of token ids (p, t): (p, k)."""
    pooled = clip.text_model(input_ids=ids).pooler_output
    return torch.nn.functional.normalize(clip.text_projection(pooled), dim=-1)


def clip_score(features: Tensor, texts: Tensor) -> Tensor:
    """The score of pictures' features (..., p, k) against their prompts' (p, k): (...)."""
    return 100 * (features * texts).sum(-1).clamp(min=0).mean(-1)


def fidelity(features: Tensor, trained: Tensor) -> Tensor:
    """Mean cosine, times 100, of samples (..., p, k) and finetuning pictures (..., q, k): (...)."""
    return 100 * (features @ trained.transpose(-1, -2)).mean((-2, -1))
