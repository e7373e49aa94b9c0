"""Make the three faces bases, each with what is recorded of it; a stopped run goes on where it was.

first     VAE, CLIP and UNet from scratch on the first mixture
second    the first's UNet trained on for a third of its steps on the changed mixture
control   a UNet from another seed on the first mixture, with the first's VAE and CLIP
"""

import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorascope.zoo.bases.bundled import FACTS, BaseFacts, base_facts, sha256_of
from lorascope.zoo.bases.faces.clip import CLIP_STEPS, train_clip
from lorascope.zoo.bases.faces.folder import (
    UNET,
    FacesBase,
    load_faces,
    weights_of,
    write_faces,
    write_unet,
)
from lorascope.zoo.bases.faces.loop import Progress
from lorascope.zoo.bases.faces.pictures import CHANGED, FIRST, draw_pool
from lorascope.zoo.bases.faces.scores import COUNT, base_scores
from lorascope.zoo.bases.faces.tokenizer import new_tokenizer
from lorascope.zoo.bases.faces.unet import RATE, UNET_STEPS, new_scheduler, train_unet
from lorascope.zoo.bases.faces.vae import VAE_STEPS, train_vae

__all__ = ["Sizes", "make_control", "make_first", "make_second"]

COMMAND = "python -m lorascope.zoo.bases.faces"


@dataclass(frozen=True)
class Sizes:
    """How much is drawn and trained."""

    pictures: int = 24_000
    vae_steps: int = VAE_STEPS
    clip_steps: int = CLIP_STEPS
    unet_steps: int = UNET_STEPS
    later_steps: int = UNET_STEPS // 3  # of the second version, on top
    held_out: int = COUNT  # pictures that it is scored on


def make_first(
    out: Path,
    *,
    seed: int = 0,
    sizes: Sizes | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
) -> BaseFacts:
    """Train the first base into a folder; `work` keeps checkpoints to resume from.

    Raises:
        MissingExtraError: diffusers or transformers is not installed.
    """
    sizes = sizes or Sizes()
    pool, tokenizer = draw_pool(FIRST, sizes.pictures, seed), new_tokenizer()
    vae = train_vae(
        pool, seed=seed, steps=sizes.vae_steps, progress=progress, checkpoint=_kept(work, "vae")
    )
    clip = train_clip(
        pool,
        tokenizer,
        seed=seed,
        steps=sizes.clip_steps,
        progress=progress,
        checkpoint=_kept(work, "clip"),
    )
    unet = train_unet(
        pool,
        vae,
        clip.text_model,
        tokenizer,
        seed=seed,
        steps=sizes.unet_steps,
        progress=progress,
        checkpoint=_kept(work, "unet"),
    )
    scheduler = new_scheduler()
    write_faces(out, unet=unet, vae=vae, clip=clip, tokenizer=tokenizer, scheduler=scheduler)
    return _record(out, f"{COMMAND} first FOLDER --seed {seed}", sizes)


def make_second(
    out: Path,
    first: Path,
    *,
    seed: int = 0,
    sizes: Sizes | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
) -> BaseFacts:
    """Train the first base's UNet on, on the changed mixture, into a folder that holds it alone."""
    sizes = sizes or Sizes()
    base = load_faces(first)
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    pool = draw_pool(CHANGED, sizes.pictures, seed + 500)
    unet = train_unet(
        pool,
        base.vae,
        base.text_encoder,
        base.tokenizer,
        start=base.unet,
        seed=seed + 500,
        steps=sizes.later_steps,
        rate=RATE / 2,
        progress=progress,
        checkpoint=_kept(work, "second"),
    )
    more = {"trained_on_from": base.facts.sha256, "weight_distance": distance(before, unet)}
    more["steps"] = sizes.later_steps
    return _finish_unet(out, base, unet, f"{COMMAND} second FOLDER --seed {seed}", more, sizes)


def make_control(
    out: Path,
    first: Path,
    *,
    seed: int = 1,
    sizes: Sizes | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
) -> BaseFacts:
    """Train a UNet from another seed on the first mixture, into a folder that holds it alone."""
    sizes = sizes or Sizes()
    base = load_faces(first)
    unet = train_unet(
        draw_pool(FIRST, sizes.pictures, seed),
        base.vae,
        base.text_encoder,
        base.tokenizer,
        seed=seed,
        steps=sizes.unet_steps,
        progress=progress,
        checkpoint=_kept(work, "control"),
    )
    more = {"weight_distance": distance(base.unet.state_dict(), unet), "steps": sizes.unet_steps}
    return _finish_unet(out, base, unet, f"{COMMAND} control FOLDER --seed {seed}", more, sizes)


def distance(before: dict[str, Any], unet: Any) -> float:
    """|w' - w| / |w| over all weights of two UNets."""
    after = unet.state_dict()
    moved = sum(float((after[name] - value).square().sum()) for name, value in before.items())
    size = sum(float(value.square().sum()) for value in before.values())
    return round((moved / size) ** 0.5, 4)


def _kept(work: Path | None, part: str) -> Path | None:
    return None if work is None else work / f"{part}.pt"


def _finish_unet(
    out: Path, base: FacesBase, unet: Any, command: str, more: dict[str, Any], sizes: Sizes
) -> BaseFacts:
    """Write a lone UNet and score it as it is read back, with the first base's other parts."""
    from diffusers import UNet2DConditionModel

    write_unet(out, unet)
    again = UNet2DConditionModel.from_pretrained(out / "unet", local_files_only=True)
    whole = replace(base, unet=again.float().eval().requires_grad_(False))
    scores, was = base_scores(whole, sizes.held_out), base.facts.scores
    change = {name: round(value - was[name], 5) for name, value in scores.items() if name in was}
    return _write_facts(out, command, scores, {**more, "score_change": change})


def _record(out: Path, command: str, sizes: Sizes) -> BaseFacts:
    """Score a whole folder as it is read back."""
    more = {"sizes": vars(sizes)}
    _write_facts(out, command, {}, more)
    return _write_facts(out, command, base_scores(load_faces(out), sizes.held_out), more)


def _write_facts(
    out: Path, command: str, scores: dict[str, float], more: dict[str, Any]
) -> BaseFacts:
    import diffusers
    import transformers

    versions = {p.__name__: p.__version__ for p in (torch, diffusers, transformers)}
    facts = {
        "command": command,
        "sha256": sha256_of(out / UNET),
        "weights": weights_of(out),
        "scores": scores,
        "versions": {**versions, "python": platform.python_version()},
        **more,
    }
    (out / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    return base_facts(out)
