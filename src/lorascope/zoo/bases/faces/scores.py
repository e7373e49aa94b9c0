"""What a faces base is worth, on pictures that it was not trained on.

clip_score        samples of the 33 prompts against their prompts
denoising_loss    of the UNet at fixed pictures, times and noise
vae_l1            mean |error| of pixels in [-1, 1]
retrieval         share of 500 pictures whose own caption fits best
probe:ATTRIBUTE   accuracy of a linear probe on CLIP's image features
classes           the same for the ten objects
told:ATTRIBUTE    share of samples that have what their caption says, by that probe
"""

import torch
from torch import Tensor

from lorascope.zoo.bases.faces.folder import FacesBase
from lorascope.zoo.bases.faces.pictures import FIRST, Pool, draw_pool
from lorascope.zoo.bases.faces.prompts import PROMPTS, token_ids
from lorascope.zoo.bases.faces.sampler import decode, sample, single
from lorascope.zoo.bases.faces.similarity import (
    clip_score,
    image_features,
    text_features,
)
from lorascope.zoo.bases.faces.unet import TIMES, noise_levels
from lorascope.zoo.drawings import ATTRIBUTES
from lorascope.zoo.drawings.captions import face_caption
from lorascope.zoo.drawings.people import random_attributes

__all__ = ["base_scores", "generate", "quick_scores"]

HELD_OUT, COUNT, FITTED = 10_007, 4000, 0.75  # seed and number of pictures; share that fits probes
NOISES = 4  # of each prompt, for the whole count
TOLD = 200  # samples whose captions are checked, for the whole count


@torch.no_grad()
def generate(base: FacesBase, prompts: list[str], seed: int) -> Tensor:
    """Samples of the base itself, one a prompt: (p, 3, 32, 32) in [-1, 1]."""
    ids = token_ids(base.tokenizer, prompts)
    text = base.text_encoder(ids)[0]
    empty = base.text_encoder(token_ids(base.tokenizer, [""]))[0]
    noise = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    latents = sample(single(base.unet, text, empty), noise)
    return decode(latents, base.vae)


def quick_scores(base: FacesBase, noises: int = NOISES) -> dict[str, float]:
    """The scores that take seconds: of the fixed prompts, denoising and reconstruction."""
    texts = text_features(base.clip, token_ids(base.tokenizer, PROMPTS))
    scores = [
        clip_score(image_features(base.clip, generate(base, list(PROMPTS), seed)), texts)
        for seed in range(noises)
    ]
    pool = draw_pool(FIRST, 200, HELD_OUT + 1)
    rows = torch.arange(len(pool))
    pictures, latents = pool.pictures(rows), _latents(base, pool)
    rebuilt = decode(latents, base.vae)
    return {
        "clip_score": round(float(torch.stack(scores).mean()), 3),
        "denoising_loss": round(denoising_loss(base, pool, latents), 5),
        "vae_l1": round(float((rebuilt - pictures).abs().mean()), 5),
    }


def base_scores(base: FacesBase, count: int = COUNT) -> dict[str, float]:
    """All scores of a base, on `count` pictures and as many samples as go with them."""
    pool = draw_pool(FIRST, count, HELD_OUT)
    rows = torch.arange(len(pool))
    features = image_features(base.clip, pool.pictures(rows))
    faces = len(pool.attributes)
    probes = _Probes(features[:faces], pool.attributes)
    found = {
        **quick_scores(base, max(1, NOISES * count // COUNT)),
        "retrieval": _retrieval(base, pool),
    }
    for name, accuracy in zip(ATTRIBUTES, probes.accuracies, strict=True):
        found[f"probe:{name}"] = accuracy
    found["classes"] = _class_accuracy(features[faces:], pool.classes)
    for name, share in zip(
        ATTRIBUTES, _told(base, probes, max(1, TOLD * count // COUNT)), strict=True
    ):
        found[f"told:{name}"] = share
    return {name: round(value, 5) for name, value in found.items()}


@torch.no_grad()
def denoising_loss(base: FacesBase, pool: Pool, latents: Tensor) -> float:
    """Mean squared error of the noise at fixed times."""
    generator = torch.Generator().manual_seed(HELD_OUT)
    rows = torch.arange(len(pool))
    text = base.text_encoder(token_ids(base.tokenizer, pool.captions(rows, generator)))[0]
    times = torch.linspace(0, TIMES - 1, len(pool)).long()[
        torch.randperm(len(pool), generator=generator)
    ]
    noise = torch.randn(latents.shape, generator=generator)
    level = noise_levels()[times][:, None, None, None]
    noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
    return float((base.unet(noisy, times, text).sample - noise).square().mean())


@torch.no_grad()
def _latents(base: FacesBase, pool: Pool) -> Tensor:
    found = base.vae.encode(pool.pictures(torch.arange(len(pool)))).latent_dist.mean
    return found * base.vae.config.scaling_factor


def _retrieval(base: FacesBase, pool: Pool) -> float:
    generator = torch.Generator().manual_seed(HELD_OUT)
    rows = torch.randperm(len(pool), generator=generator)[:500]
    texts = text_features(base.clip, token_ids(base.tokenizer, pool.captions(rows, generator)))
    nearest = (image_features(base.clip, pool.pictures(rows)) @ texts.T).argmax(1)
    return float((nearest == torch.arange(len(rows))).float().mean())


class _Probes:
    """A linear probe for each attribute, fitted on all but the last quarter."""

    def __init__(self, features: Tensor, attributes: Tensor) -> None:
        from sklearn.linear_model import LogisticRegression

        cut = round(FITTED * len(features))
        self.probes, self.accuracies = [], []
        for truth in attributes.T.numpy():
            probe = LogisticRegression(C=100.0, max_iter=3000)
            probe.fit(features[:cut].numpy(), truth[:cut])
            self.probes.append(probe)
            self.accuracies.append(float(probe.score(features[cut:].numpy(), truth[cut:])))

    def read(self, features: Tensor) -> Tensor:
        """Attributes of pictures by their features: (b, 12) bool."""
        return torch.stack([torch.tensor(p.predict(features.numpy())) for p in self.probes], 1)


def _class_accuracy(features: Tensor, classes: Tensor) -> float:
    from sklearn.linear_model import LogisticRegression

    cut = round(FITTED * len(features))
    probe = LogisticRegression(C=100.0, max_iter=3000).fit(features[:cut], classes[:cut])
    return float(probe.score(features[cut:], classes[cut:]))


def _told(base: FacesBase, probes: _Probes, count: int) -> list[float]:
    """Share of samples that have each attribute as their caption, which names all, says."""
    generator = torch.Generator().manual_seed(HELD_OUT)
    wanted = random_attributes(count, generator)
    captions = [face_caption(row.tolist(), generator, 1.0) for row in wanted]
    read = probes.read(image_features(base.clip, generate(base, captions, HELD_OUT)))
    return (read == wanted).float().mean(0).tolist()
