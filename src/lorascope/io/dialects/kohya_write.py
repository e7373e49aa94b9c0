"""A `LoRA` -> tensors and metadata of one file in kohya's grammar, which reads as the same LoRA.

    PREFIX_MODULE.lora_down.weight = v^T   .lora_up.weight = u / factor   .alpha

    unet -> lora_unet   text_encoder -> lora_te, with a second one lora_te1   text_encoder_2 -> lora_te2
    text_encoder_3 -> lora_te3   transformer -> lora_transformer (the split spelling, which OneTrainer
    writes and ComfyUI and diffusers load; sd-scripts itself spells fused matrices)

alpha is the raw alpha where provenance has it for this rank, else r. A name whose underscores could not be
undone is refused: the file would not come back as what it is. The inverse of kohya.py.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.errors import FormatError
from lorascope.io.names import Namer

__all__ = ["to_kohya"]

PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "unet": "lora_unet",
        "transformer": "lora_transformer",
        "text_encoder": "lora_te",
        "text_encoder_2": "lora_te2",
        "text_encoder_3": "lora_te3",
    }
)
ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        "dora_magnitude": "dora_scale",
        **{
            name: name
            for name in ("diff", "diff_b", "w_norm", "b_norm", "set_weight", "lokr_w1", "lokr_w2")
        },
    }
)
KEPT = ("ss_", "sshs_", "modelspec.")


def to_kohya(lora: LoRA) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by key, and the metadata.

    Raises:
        FormatError: it has no layer, a layer's name has no spelling, or a side tensor has no place.
    """
    if not len(lora) and not lora.side:
        raise FormatError("Writing a LoRA as kohya: it has no layers, expected at least one.")
    sides = {name: _placed(name) for name in lora.side}
    modules = [*lora, *(module for module, _ in sides.values() if module)]
    spelled = _spell(dict.fromkeys(modules))
    tensors: dict[str, Tensor] = {}
    for name in lora:
        tensors.update(_factors(lora, name, spelled[name]))
    for name, (module, ending) in sides.items():
        tensors[f"{spelled[module]}.{ending}" if module else name] = lora.side[name].tensor
    metadata = {
        key: value
        for key, value in lora.provenance.config.items()
        if key.startswith(KEPT) and isinstance(value, str)
    }
    return tensors, metadata


def _factors(lora: LoRA, name: str, module: str) -> dict[str, Tensor]:
    # no reader takes rank 0: a column of zeros is the same update
    pair = lora[name] if lora[name].rank else lora[name].pad(1)
    scale = lora.provenance.scales.get(name)
    alpha, factor = float(pair.rank), 1.0
    if scale is not None and scale.alpha and scale.rank == pair.rank and scale.rule == "alpha/r":
        alpha, factor = scale.alpha, scale.factor
    up = pair.u if factor == 1.0 else pair.u / factor
    down = pair.v.T.contiguous()
    if pair.kernel:
        down = down.reshape(pair.rank, -1, *pair.kernel)
        up = up.reshape(*up.shape, *(1 for _ in pair.kernel))
    return {
        f"{module}.lora_down.weight": down,
        f"{module}.lora_up.weight": up.contiguous(),
        f"{module}.alpha": torch.tensor(alpha),
    }


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


def _spell(names: Mapping[str, None]) -> dict[str, str]:
    """The flattened module of each layer, each of which reads back as the layer."""
    two = any(name.startswith("text_encoder_2.") for name in names)
    found = {name: _flat(name, two=two) for name in names}
    namer = Namer.of(found.values())
    for name, flat in found.items():
        if not flat or namer.place(flat).names != (name,):
            raise FormatError(
                f"Writing layer {name!r} as kohya: no prefix stands for its component, or its underscores "
                "could not be undone. Try: format='peft'."
            )
    return found


def _flat(name: str, *, two: bool) -> str:
    component, _, path = name.partition(".")
    if component == "text_encoder" and two:
        return f"lora_te1_{path.replace('.', '_')}"
    if component in PREFIXES and path:
        return f"{PREFIXES[component]}_{path.replace('.', '_')}"
    return name if name.startswith(("lora_", "lycoris_")) else ""
