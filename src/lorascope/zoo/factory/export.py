"""One LoRA of a zoo as a PEFT folder that stands alone: weights, configuration, what it is and scored.

`peft` loads the folder on the base and the scores in its README.md are those that the model then has.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorascope.errors import FileError, LorascopeError
from lorascope.io.shard_writer import write_text
from lorascope.io.shards import HYPER, LABEL, Zoo
from lorascope.io.write import write_lora
from lorascope.zoo.factory.restore import origin_of

__all__ = ["base_folder", "export_peft", "model_card"]

LOAD = {
    "image": """import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel

pipeline = StableDiffusionPipeline.from_pretrained("{base}")
pipeline.unet = PeftModel.from_pretrained(pipeline.unet, "{folder}")
pipeline("a portrait").images[0]""",
    "language": """from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{folder}")""",
}


def export_peft(
    zoo: Zoo, identity: int, out: str | Path, *, base: str | Path | None = None
) -> Path:
    """Write one LoRA as a PEFT folder with a README.md of its labels; the folder comes back.

    Args:
        identity: its id in the index.
        base: the folder or name of the base to write into adapter_config.json; the bundled one's
            folder by default, or the name that the zoo records.

    Raises:
        DataError: there is no such id.
        FileError: something is in the folder already.
        LayerError: PEFT has no word for one of its layers.
    """
    place = zoo.row_of(identity)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileError(
            f"Exporting LoRA {identity} to {str(out)!r}: something is there already, and a README.md of yours "
            "could be lost. Expected a new or empty folder. Try: another name."
        )
    lora = zoo.lora(place)
    named = str(base or base_folder(zoo.recipe) or lora.provenance.base or "")
    folder = Path(write_lora(lora, out))
    config = folder / "adapter_config.json"
    written = json.loads(config.read_text(encoding="utf-8"))
    written["base_model_name_or_path"] = named or None
    write_text(config, json.dumps(written, indent=2, sort_keys=True) + "\n")
    row = zoo.index.slice(place, 1).to_pylist()[0]
    image = any(name.startswith(("unet.", "down_blocks.", "mid_block.")) for name in lora)
    write_text(folder / "README.md", model_card(zoo, row, named, image=image))
    return folder


def base_folder(recipe: Mapping[str, Any]) -> Path | None:
    """Where the base of a zoo lies on this machine, None where it is no bundled one."""
    from lorascope.zoo.factory.restore import family_of, parts_of

    try:
        return family_of(parts_of(recipe)[0]).base_folder
    except (LorascopeError, KeyError):
        return None


def model_card(zoo: Zoo, row: Mapping[str, Any], base: str, *, image: bool) -> str:
    """What the adapter is, how to load it and what it scored."""
    origin = origin_of(zoo.recipe, row)
    lines = ["---", "library_name: peft"]
    if base:
        lines.append(f"base_model: {json.dumps(base)}")
    lines += ["---", "", f"# LoRA {row['id']} of {zoo.path.resolve().name}", ""]
    made = origin.recipe.get("family")
    if made:
        lines += [f"Index {origin.index} of the {made} family, seed {row.get('seed')}.", ""]
    lines += ["| label | this LoRA | base alone |", "| :-- | --: | --: |"]
    for name, target in zoo.targets.items():
        value, alone = _shown(row.get(LABEL + name), target), target.get("base_value")
        lines.append(f"| {name} | {value} | {'' if alone is None else f'{alone:.4g}'} |")
    hyper = {n.removeprefix(HYPER): v for n, v in row.items() if n.startswith(HYPER)}
    if hyper:
        lines += ["", "Trained with " + ", ".join(f"{n} {_shown(v, {})}" for n, v in hyper.items())]
        lines[-1] += "."
    text = LOAD["image" if image else "language"].format(base=base or "BASE", folder=".")
    return "\n".join([*lines, "", "```python", text, "```", ""])


def _shown(value: Any, target: Mapping[str, Any]) -> str:
    """A label in words: the classes that hold, or a number."""
    classes = list(target.get("classes", ()))
    if value is None:
        return "missing"
    if isinstance(value, list):
        named = [c for c, has in zip(classes, value, strict=False) if has]
        return ", ".join(map(str, named)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
