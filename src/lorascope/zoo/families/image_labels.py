"""Labels that need samples: how well finetuned image models follow prompts and show what they saw.

    clip_score      33 fixed prompts, one sample each, against their prompts
    fidelity        samples of the LoRA's own prompt against the pictures it was finetuned on
    fidelity_gain   the same less the base's own fidelity under the same noise

The noise is the same for all LoRAs of a zoo, so that it adds little to differences; `noise_seed`
draws other noise, by which the labels' own noise is measured. What the noise makes of a prompt
suits one person more than another, whatever was learned: over 128 LoRAs two readings of fidelity by
8 samples correlate .33, of its gain .65. So the gain is the one to predict.
Who denoises is the caller's: `Guide` makes a predictor for g models from g texts each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorascope.zoo.bases.faces.folder import FacesBase
from lorascope.zoo.bases.faces.prompts import PROMPTS
from lorascope.zoo.bases.faces.sampler import Predict, decode, sample, single
from lorascope.zoo.bases.faces.similarity import clip_score, fidelity, image_features

__all__ = [
    "AGAIN",
    "OWN_SAMPLES",
    "SAMPLED",
    "Guide",
    "ImageScores",
    "alone",
    "image_scores",
    "own_features",
    "prompt_texts",
]

OWN_SAMPLES = 32  # the noise of fidelity_gain is then a third of its deviation
LATENTS = (4, 8, 8)
#: The labels that are read from samples.
SAMPLED = ("clip_score", "fidelity", "fidelity_gain")
AGAIN = "_again"  # ends the name of a label that was read a second time, under other noise

#: Texts (g, p, t, w) and the empty text (t, w) -> guided noise for latents (g, p, 4, 8, 8).
Guide = Callable[[Tensor, Tensor], Predict]


@dataclass(frozen=True, eq=False)
class ImageScores:
    """The sampled labels of g models, and the pictures they were read from."""

    clip_score: Tensor  # (g,)
    fidelity: Tensor  # (g,)
    fidelity_gain: Tensor  # (g,)
    pictures: Tensor  # (g, 33 + OWN_SAMPLES, 3, 32, 32) in [-1, 1]


@torch.no_grad()
def image_scores(
    base: FacesBase,
    guide: Guide,
    own_prompts: Tensor,
    trained: Sequence[Tensor],
    before: Tensor,
    *,
    noise_seed: int = 0,
) -> ImageScores:
    """Sample and score g models at once; the base itself is left as it is.

    Args:
        own_prompts: token ids (g, t) of what each was finetuned on.
        trained: for each, the pictures (e, 3, 32, 32) in [-1, 1] that it was finetuned on.
        before: what `own_features` gives for the same prompts and noise, (g, OWN_SAMPLES, k).
    """
    texts, empty = prompt_texts(base, own_prompts)
    noise = shared_noise(texts.shape[1], noise_seed)
    wide = noise.expand(len(texts), *noise.shape).contiguous()
    pictures = decode(sample(guide(texts, empty), wide), base.vae)
    features = image_features(base.clip, pictures)  # (g, p, k)
    fixed = len(PROMPTS)
    shown = [image_features(base.clip, seen) for seen in trained]
    own = torch.stack([fidelity(f[fixed:], seen) for f, seen in zip(features, shown, strict=True)])
    bases = torch.stack([fidelity(f, seen) for f, seen in zip(before, shown, strict=True)])
    return ImageScores(clip_score(features[:, :fixed], base.wanted), own, own - bases, pictures)


def shared_noise(count: int, seed: int) -> Tensor:
    """The noise that every model of a zoo starts from: (count, 4, 8, 8)."""
    return torch.randn(count, *LATENTS, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def own_features(base: FacesBase, guide: Guide, own_prompts: Tensor, noise_seed: int = 0) -> Tensor:
    """CLIP's features of samples of prompts (g, t), a model each: (g, OWN_SAMPLES, k)."""
    texts, empty = prompt_texts(base, own_prompts)
    noise = shared_noise(texts.shape[1], noise_seed)[len(PROMPTS) :]
    wide = noise.expand(len(texts), *noise.shape).contiguous()
    sampled = sample(guide(texts[:, len(PROMPTS) :], empty), wide)
    return image_features(base.clip, decode(sampled, base.vae))


def alone(unet: Any) -> Guide:
    """One UNet of diffusers for every row of texts."""

    def guide(texts: Tensor, empty: Tensor) -> Predict:
        each = [single(unet, text, empty[None]) for text in texts]

        def predict(latents: Tensor, time: int) -> Tensor:
            return torch.stack([one(x, time) for one, x in zip(each, latents, strict=True)])

        return predict

    return guide


def prompt_texts(base: FacesBase, own_prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Encoded prompts of each model, the fixed and its own: (g, p, t, w); the empty text (t, w)."""
    own = base.read(own_prompts)[:, None].expand(-1, OWN_SAMPLES, -1, -1)
    return torch.cat((base.fixed_texts.expand(len(own), -1, -1, -1), own), 1), base.empty_text
