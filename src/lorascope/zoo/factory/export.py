"""One LoRA of a zoo as a PEFT folder that stands alone: weights, configuration, what it is and scored.

`peft` loads the folder on the base and the scores in its README.md (`adapter_card.py`) are those that the
model then has.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorascope.errors import FileError
from lorascope.io.shard_writer import write_text
from lorascope.io.shards import Zoo
from lorascope.io.write import write_lora
from lorascope.zoo.bases.names import base_folder, bundled_base
from lorascope.zoo.factory.adapter_card import adapter_card
from lorascope.zoo.factory.restore import given_base, origin_of

__all__ = ["export_peft"]


def export_peft(
    zoo: Zoo, identity: int, out: str | Path, *, base: str | Path | None = None
) -> Path:
    """Write one LoRA as a PEFT folder with a README.md of its labels; the folder comes back.

    Args:
        identity: its id in the index.
        base: the folder or name of the base to write into adapter_config.json, or the name of a bundled
            one, whose folder is written; by default the bundled one of its recipe, the published one by
            its name on the Hub, or the name that the zoo records.

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
    row = zoo.index.slice(place, 1).to_pylist()[0]
    if base is None:
        recipe = origin_of(zoo.recipe, row).recipe
        bundled = bundled_base(recipe.get("base"))
        named = on_hub(recipe, str(lora.provenance.base or ""))
    else:
        given = given_base(base)
        bundled, named = (given if isinstance(given, str) else None), str(base)
    where = str(base_folder(bundled)) if bundled else named or None
    folder = Path(write_lora(lora, out))
    config = folder / "adapter_config.json"
    written = json.loads(config.read_text(encoding="utf-8"))
    written["base_model_name_or_path"] = where
    write_text(config, json.dumps(written, indent=2, sort_keys=True) + "\n")
    text = adapter_card(zoo, row, list(lora), bundled=bundled, base=named)
    write_text(folder / "README.md", text)
    return folder


def on_hub(recipe: Mapping[str, Any], recorded: str) -> str:
    """The name by which others load the base of one of the paper's zoos; what is recorded for any other.

    A zoo records the folder's name alone, which a base from the Hub has without its owner.
    """
    from lorascope.zoo.families.published import PUBLISHED

    known = PUBLISHED.get(str(recipe.get("family")))
    return known.base.name if known and known.base.name.endswith(f"/{recorded}") else recorded
