"""The scores of an exported image LoRA the ordinary way: diffusers' pipeline, peft's adapter, CLIP."""

import json
from pathlib import Path

from lorascope.zoo.bases.faces.prompts import OWN_PROMPTS, PROMPTS, token_ids
from lorascope.zoo.bases.faces.similarity import (
    clip_score,
    fidelity,
    image_features,
    text_features,
)
from lorascope.zoo.families.image_by_hand import drawn_by_hand, pipeline_and_clip
from lorascope.zoo.families.image_labels import OWN_SAMPLES, shared_noise


def scores_by_hand(family, index, folder):
    """clip_score and fidelity_gain of the adapter in a PEFT folder, on the base that it names."""
    from peft import PeftModel

    config = json.loads((folder / "adapter_config.json").read_text())
    pipeline, clip = pipeline_and_clip(Path(config["base_model_name_or_path"]))
    own = [OWN_PROMPTS[int(family.hyper(index)["prompt"])]] * OWN_SAMPLES
    noise = shared_noise(len(PROMPTS) + OWN_SAMPLES, 0)
    seen = image_features(clip, family.draw(index).pictures)
    before = drawn_by_hand(pipeline, own, noise[len(PROMPTS) :])
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, str(folder))
    features = image_features(clip, drawn_by_hand(pipeline, [*PROMPTS, *own], noise))
    wanted = text_features(clip, token_ids(pipeline.tokenizer, PROMPTS))
    gain = fidelity(features[len(PROMPTS) :], seen) - fidelity(image_features(clip, before), seen)
    return {
        "clip_score": float(clip_score(features[: len(PROMPTS)], wanted)),
        "fidelity_gain": float(gain),
    }
