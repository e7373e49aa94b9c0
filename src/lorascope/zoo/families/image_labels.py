"""Labels that need samples: how well finetuned image models follow prompts and show what they saw.

    clip_score   33 fixed prompts, one sample each, against their prompts
    fidelity     samples of the LoRA's own prompt against the pictures it was finetuned on

The noise is the same for all LoRAs and prompts of a zoo, so that it adds nothing to differences;
`noise_seed` draws other noise, by which the labels' own noise is measured.
Who denoises is the caller's: `Guide` makes a predictor for g models from g texts each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.zoo.bases.faces.folder import FacesBase
from lorascope.zoo.bases.faces.prompts import PROMPTS, token_ids
from lorascope.zoo.bases.faces.sampler import Predict, decode, sample
from lorascope.zoo.bases.faces.similarity import (
    clip_score,
    fidelity,
    image_features,
    text_features,
)

__all__ = ["OWN_SAMPLES", "Guide", "ImageScores", "image_scores", "prompt_texts"]

OWN_SAMPLES = 8
LATENTS = (4, 8, 8)

#: Texts (g, p, t, w) and the empty text (t, w) -> guided noise for latents (g, p, 4, 8, 8).
Guide = Callable[[Tensor, Tensor], Predict]


@dataclass(frozen=True, eq=False)
class ImageScores:
    """The sampled labels of g models, and the pictures they were read from."""

    clip_score: Tensor  # (g,)
    fidelity: Tensor  # (g,)
    pictures: Tensor  # (g, 33 + OWN_SAMPLES, 3, 32, 32) in [-1, 1]


@torch.no_grad()
def image_scores(
    base: FacesBase,
    guide: Guide,
    own_prompts: Tensor,
    trained: Sequence[Tensor],
    *,
    noise_seed: int = 0,
) -> ImageScores:
    """Sample and score g models at once.

    Args:
        own_prompts: token ids (g, t) of what each was finetuned on.
        trained: for each, the pictures (e, 3, 32, 32) in [-1, 1] that it was finetuned on.
    """
    texts, empty = prompt_texts(base, own_prompts)
    count = texts.shape[1]
    generator = torch.Generator().manual_seed(noise_seed)
    noise = torch.randn(count, *LATENTS, generator=generator).expand(len(texts), -1, -1, -1, -1)
    latents = sample(guide(texts, empty), noise.contiguous())
    pictures = decode(latents, base.vae)
    features = image_features(base.clip, pictures)  # (g, p, k)
    wanted = text_features(base.clip, token_ids(base.tokenizer, PROMPTS))
    seen = features[:, len(PROMPTS) :]
    own = [
        fidelity(of_one, image_features(base.clip, shown))
        for of_one, shown in zip(seen, trained, strict=True)
    ]
    return ImageScores(clip_score(features[:, : len(PROMPTS)], wanted), torch.stack(own), pictures)


def prompt_texts(base: FacesBase, own_prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Encoded prompts of each model, the fixed and its own: (g, p, t, w); the empty text (t, w)."""
    fixed = base.text_encoder(token_ids(base.tokenizer, PROMPTS))[0]
    own = base.text_encoder(own_prompts)[0][:, None].expand(-1, OWN_SAMPLES, -1, -1)
    empty = base.text_encoder(token_ids(base.tokenizer, [""]))[0][0]
    return torch.cat((fixed.expand(len(own), -1, -1, -1), own), 1), empty
