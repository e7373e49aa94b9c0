"""A `LoRA` -> tensors and metadata of one file in kohya's grammar, which reads as the same LoRA.

    PREFIX_MODULE.lora_down.weight = v^T   .lora_up.weight = u / factor   .alpha
    PREFIX_MODULE.lokr_w1 ..   .hada_w1_a ..                       layers that keep LyCORIS' native factors

Modules are spelled and fused as kohya_modules.py says. alpha is the raw alpha where provenance has it for this
rank, else r. A name whose underscores could not be undone is refused: the file would not come back as what it
is. The inverse of kohya.py.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from lorascope.core import LoRA, Scale, Update
from lorascope.errors import FormatError
from lorascope.io.dialects.kohya_modules import ABSENT, modules_of
from lorascope.io.modules import slots_of

__all__ = ["to_kohya"]

ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        "dora_magnitude": "dora_scale",
        **{
            name: name
            for name in ("diff", "diff_b", "w_norm", "b_norm", "set_weight", "lokr_w1", "lokr_w2")
        },
    }
)
SLOTS: Mapping[str, str] = MappingProxyType({"down": "lora_down.weight", "up": "lora_up.weight"})
KEPT = ("ss_", "sshs_", "modelspec.")


def to_kohya(lora: LoRA) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by key, and the metadata.

    Raises:
        FormatError: it has no layer, a layer's name has no spelling, or a side tensor has no place.
    """
    if not len(lora) and not lora.side:
        raise FormatError("Writing a LoRA as kohya: it has no layers, expected at least one.")
    sides = {name: _placed(name) for name in lora.side}
    modules = modules_of(lora, [module for module, _ in sides.values() if module])
    spelled = {name: flat for flat, module in modules.items() for name in module.place.names}
    tensors: dict[str, Tensor] = {}
    for flat, module in modules.items():
        if module.update is not None:
            tensors.update(_factors(flat, module.update, module.scale))
    for name, (owner, ending) in sides.items():
        tensors[f"{spelled[owner]}.{ending}" if owner else name] = lora.side[name].tensor
    metadata = {
        key: value
        for key, value in lora.provenance.config.items()
        if key.startswith(KEPT) and isinstance(value, str)
    }
    absent = [name for module in modules.values() for name in module.absent]
    if absent:
        metadata[ABSENT] = json.dumps(absent)
    return tensors, metadata


def _factors(module: str, update: Update, scale: Scale | None) -> dict[str, Tensor]:
    slots = slots_of(update, scale)
    return {f"{module}.{SLOTS.get(slot, slot)}": tensor for slot, tensor in slots.items()}


def _placed(name: str) -> tuple[str, str]:
    """Module and ending of a side tensor; no module for a token's embedding, whose name is its key."""
    if name.startswith("bundle_emb."):
        return "", name
    module, _, ending = name.rpartition(".")
    if ending not in ENDINGS or not module:
        raise FormatError(
            f"Writing a LoRA as kohya: the format has no place for the side tensor {name!r}. Try: leave it out "
            "with replace(lora, side={}), or format='peft'."
        )
    return module, ENDINGS[ending]
