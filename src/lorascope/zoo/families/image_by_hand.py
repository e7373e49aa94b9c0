"""The CLIP score the ordinary way: one adapter's PEFT folder on a pipeline of diffusers, loaded by peft.

What a user without lorascope would do to know how a finetuned model scores. The engine's `image_scores`
gives the same numbers for many adapters at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.faces.folder import faces_folder
from lorascope.zoo.bases.faces.prompts import PROMPTS, token_ids
from lorascope.zoo.bases.faces.sampler import GUIDANCE, STEPS
from lorascope.zoo.bases.faces.similarity import clip_score, image_features, text_features
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.families.image_labels import OWN_SAMPLES, shared_noise

__all__ = ["drawn_by_hand", "pipeline_and_clip", "scores_by_hand"]


@torch.no_grad()
def scores_by_hand(base: str | Path, adapter: Path | str) -> dict[str, float]:
    """The CLIP score of an adapter over the 33 fixed prompts, by the name of its target.

    Args:
        base: a bundled base of images, by name, or the folder of one.
        adapter: a PEFT folder.

    Raises:
        FileError: there is no such base.
        MissingExtraError: diffusers, transformers or peft is not installed.
    """
    pipeline, clip = pipeline_and_clip(faces_folder(base))
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "zoo", "evaluating an adapter") from error
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, str(adapter))
    # the noise of a zoo is drawn for the fixed prompts and the LoRA's own samples together
    noise = shared_noise(len(PROMPTS) + OWN_SAMPLES, 0)[: len(PROMPTS)]
    features = image_features(clip, drawn_by_hand(pipeline, PROMPTS, noise))
    wanted = text_features(clip, token_ids(pipeline.tokenizer, PROMPTS))
    return {"clip_score": float(clip_score(features, wanted))}


def pipeline_and_clip(folder: Path) -> tuple[Any, Any]:
    """The StableDiffusionPipeline of a base's folder and its CLIPModel; it samples without a bar.

    Raises:
        MissingExtraError: diffusers or transformers is not installed.
    """
    try:
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPModel
    except ImportError as error:
        raise MissingExtraError("diffusers", "zoo", f"loading the base {folder}") from error
    with quiet_loading():
        pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
        clip = CLIPModel.from_pretrained(folder / "clip", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, clip


def drawn_by_hand(pipeline: Any, prompts: Sequence[str], noise: Tensor) -> Tensor:
    """Pictures in [-1, 1] of prompts from given noise (p, 4, 8, 8): (p, 3, 32, 32)."""
    drawn: Tensor = pipeline(
        list(prompts),
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="pt",
    ).images
    return 2 * drawn - 1
