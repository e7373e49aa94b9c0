"""The scores of an exported image LoRA the ordinary way: diffusers' pipeline, peft's adapter, CLIP."""

import json

from lorascope.zoo.bases.faces.prompts import OWN_PROMPTS, PROMPTS, token_ids
from lorascope.zoo.bases.faces.sampler import GUIDANCE, STEPS
from lorascope.zoo.bases.faces.similarity import (
    clip_score,
    fidelity,
    image_features,
    text_features,
)
from lorascope.zoo.families.image_labels import OWN_SAMPLES, shared_noise


def scores_by_hand(family, index, folder):
    """clip_score and fidelity_gain of the adapter in a PEFT folder."""
    from diffusers import StableDiffusionPipeline
    from peft import PeftModel
    from transformers import CLIPModel

    config = json.loads((folder / "adapter_config.json").read_text())
    base = config["base_model_name_or_path"]
    pipeline = StableDiffusionPipeline.from_pretrained(base, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    clip = CLIPModel.from_pretrained(f"{base}/clip")
    own = [OWN_PROMPTS[int(family.hyper(index)["prompt"])]] * OWN_SAMPLES
    noise = shared_noise(len(PROMPTS) + OWN_SAMPLES, 0)
    seen = image_features(clip, family.draw(index).pictures)
    before = samples(pipeline, own, noise[len(PROMPTS) :])
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, str(folder))
    features = image_features(clip, samples(pipeline, [*PROMPTS, *own], noise))
    wanted = text_features(clip, token_ids(pipeline.tokenizer, PROMPTS))
    gain = fidelity(features[len(PROMPTS) :], seen) - fidelity(image_features(clip, before), seen)
    return {
        "clip_score": float(clip_score(features[: len(PROMPTS)], wanted)),
        "fidelity_gain": float(gain),
    }


def samples(pipeline, prompts, noise):
    """Pictures in [-1, 1] of prompts from given noise."""
    drawn = pipeline(
        prompts,
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="pt",
    ).images
    return 2 * drawn - 1
