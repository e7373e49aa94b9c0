"""What stands beside an exported adapter: what it is, what it scored, and lines that load and ask it.

The lines hold no place of this machine: a bundled base is found by its name wherever lorascope is installed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorascope.io.shards import HYPER, LABEL, Zoo
from lorascope.zoo.bases.names import bundled_base
from lorascope.zoo.factory.card import plain
from lorascope.zoo.factory.restore import Origin, kind_of, origin_of

__all__ = ["adapter_card"]

LOAD = {
    "image": """from diffusers import StableDiffusionPipeline
from peft import PeftModel
{needed}
pipeline = StableDiffusionPipeline.from_pretrained({base})
pipeline.unet = PeftModel.from_pretrained(pipeline.unet, ".")
image = pipeline({prompt}).images[0]""",
    "language": """from peft import PeftModel
from transformers import AutoModelForCausalLM
{needed}
base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, ".")""",
}
ASK = {
    "image": """from lorascope.zoo.families.image_by_hand import scores_by_hand

print(scores_by_hand({base}, "."))  # in the zoo: {stored}""",
    "language": """from lorascope.zoo.families.exam.by_hand import exam_base, scores_by_hand

print(scores_by_hand(exam_base({base}), "."))  # in the zoo: {stored}""",
}
ASKED = {"image": ("clip_score",), "language": ("accuracy", "eval_loss")}


def adapter_card(
    zoo: Zoo, row: Mapping[str, Any], layers: Sequence[str], *, bundled: str | None, base: str
) -> str:
    """The README.md of an exported adapter.

    Args:
        row: its row of the index.
        layers: the names of its layers.
        bundled: the bundled base that it is exported for, if it is one.
        base: how the base is named otherwise; empty where nothing is known.
    """
    origin = origin_of(zoo.recipe, row)
    lines = ["---", "library_name: peft"]
    if bundled or base:
        lines.append(f"base_model: {json.dumps(bundled or base)}")
    lines += ["---", "", f"# LoRA {row['id']} of {plain(zoo.path.resolve().name)}", ""]
    if origin.recipe.get("family"):
        made = f"Index {origin.index} of the {plain(str(origin.recipe['family']))} family"
        lines += [f"{made}, seed {row.get('seed')}.", ""]
    lines += ["| label | this LoRA | base alone |", "| :-- | --: | --: |"]
    for name, target in zoo.targets.items():
        value, alone = plain(_shown(row.get(LABEL + name), target)), target.get("base_value")
        lines.append(f"| {plain(name)} | {value} | {'' if alone is None else f'{alone:.4g}'} |")
    hyper = {n.removeprefix(HYPER): v for n, v in row.items() if n.startswith(HYPER)}
    if hyper:
        told = ", ".join(f"{plain(name)} {_shown(value, {})}" for name, value in hyper.items())
        lines += ["", f"Trained with {told}."]
    kind = "image" if _is_image(layers) else "language"
    lines += ["", *_loading(kind, origin, row, bundled, base)]
    return "\n".join([*lines, *_asking(kind, origin, row, bundled), ""])


def _is_image(layers: Sequence[str]) -> bool:
    return any(name.startswith(("unet.", "down_blocks.", "mid_block.")) for name in layers)


def _loading(
    kind: str, origin: Origin, row: Mapping[str, Any], bundled: str | None, base: str
) -> list[str]:
    """Lines that load it on the base."""
    text = LOAD[kind].format(
        needed="\nfrom lorascope.zoo.bases import base_folder\n" if bundled else "",
        base=f"base_folder({json.dumps(bundled)})" if bundled else json.dumps(base or "BASE"),
        prompt=_prompt(origin.recipe, row),
    )
    said = "To load it, in this folder"
    if bundled:
        said += (
            " (lorascope brings the base; `base_model_name_or_path` in adapter_config.json is where it lay "
            "when this was written)"
        )
    return [f"{said}:", "", "```python", text, "```"]


def _prompt(recipe: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """What a pipeline is called with: the words that the LoRA was finetuned on, as its zoo samples them."""
    kind, options = kind_of(recipe), recipe.get("options", {})
    words, drawn = getattr(kind, "words", ()), row.get(f"{HYPER}prompt")
    # of an import the column is anyone's
    place = int(drawn) if isinstance(drawn, int | float) and math.isfinite(drawn) else 0
    called = [json.dumps(words[place] if 0 <= place < len(words) else "a portrait")]
    sampling = getattr(kind, "sampling", None) or (options.get("steps"), options.get("guidance"))
    if None not in sampling:
        steps, guidance = sampling
        called += [f"num_inference_steps={steps}", f"guidance_scale={guidance}"]
    return ", ".join(called)


def _asking(
    kind: str, origin: Origin, row: Mapping[str, Any], bundled: str | None
) -> Sequence[str]:
    """Lines that ask it again what the zoo stored, where the package brings all that it takes."""
    from lorascope.zoo.families import FAMILIES

    ours = origin.recipe.get("family") in FAMILIES
    if not bundled or not ours or bundled != bundled_base(origin.recipe.get("base")):
        return []
    stored = [f"{name} {_shown(row.get(LABEL + name), {})}" for name in ASKED[kind]]
    text = ASK[kind].format(base=json.dumps(bundled), stored=", ".join(stored))
    return ["", "To ask it again what the zoo asked:", "", "```python", text, "```"]


def _shown(value: Any, target: Mapping[str, Any]) -> str:
    """A label in words: the classes that hold, or a number."""
    classes = list(target.get("classes", ()))
    if value is None:
        return "missing"
    if isinstance(value, list):
        named = [c for c, has in zip(classes, value, strict=False) if has]
        return ", ".join(map(str, named)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
