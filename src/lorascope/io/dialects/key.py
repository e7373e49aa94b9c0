"""KEY = MODULE . ENDING: the endings that all dialects with named modules share, and the slots they mean.

    lora_unet_mid_block_attentions_0_proj_in . lora_down.weight       -> down      kohya, LyCORIS
    unet.mid_block.attentions.0.proj_in . lora.down.weight            -> down      diffusers
    mid_block...attn1.processor.to_q_lora . down.weight               -> down of ...attn1.to_q
    transformer.proj_out . lora_A.weight                              -> down      diffusers, ComfyUI

The module stays as it is spelled; what it is called in the base model is for `lorascope.io.names`. Slots are
those of `lorascope.io.modules.parts`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from lorascope.errors import FormatError

__all__ = ["ENDINGS", "Keyed", "group_keys", "split_key"]

SAME = (
    "alpha", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "rescale", "on_input",
    "set_weight", "reshape_weight", "lambda_layer",
)  # fmt: skip
ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        **{name: name for name in SAME},
        **{f"{name}.weight": name for name in ("a1", "a2", "b1", "b2", "bm", "q_layer", "p_layer")},
        "lora_down.weight": "down",
        "lora_up.weight": "up",
        "lora_mid.weight": "mid",
        "lora_up.bias": "up_bias",
        "lora.down.weight": "down",
        "lora.up.weight": "up",
        "lora_linear_layer.down.weight": "down",
        "lora_linear_layer.up.weight": "up",
        "lora_A.weight": "down",
        "lora_B.weight": "up",
        "lora_B.bias": "up_bias",
        "lora_A.default.weight": "down",
        "lora_B.default.weight": "up",
        "lora_A": "down",
        "lora_B": "up",
        "lora_magnitude_vector": "dora",
        "lora_magnitude_vector.weight": "dora",
        "lora_magnitude_vector.default.weight": "dora",
        "magnitude": "dora",
        "dora_scale": "dora",
        "down.weight": "down",  # after a module that ends in _lora, _lora1, _lora2
        "up.weight": "up",
    }
)
PROCESSOR = re.compile(r"(?:processor\.)?(\w+?)_lora(\d?)$")


@dataclass(frozen=True, eq=False)
class Keyed:
    """The tensors of a file by module and slot, with the key that each came under, and what has no slot."""

    modules: Mapping[str, Mapping[str, Tensor]]
    keys: Mapping[str, Mapping[str, str]]
    loose: Mapping[str, Tensor]


def split_key(key: str) -> tuple[str, str] | None:
    """The module as spelled and the slot, None if the key has no known ending.

    Example:
        >>> split_key("down_blocks.0.attn1.processor.to_q_lora.down.weight")
        ('down_blocks.0.attn1.to_q', 'down')
    """
    parts = key.rsplit(".", 3)
    for count in range(1, len(parts)):
        slot = ENDINGS.get(".".join(parts[count:]))
        if slot is None:
            continue
        module = ".".join(parts[:count])
        if parts[count] not in ("down", "up"):
            return module, slot
        bare = _without_processor(module)
        return None if bare is None else (bare, slot)
    return None


def group_keys(tensors: Mapping[str, Tensor], where: str) -> Keyed:
    """All tensors of a file by module and slot. Raises FormatError if two keys name one slot."""
    modules: dict[str, dict[str, Tensor]] = {}
    keys: dict[str, dict[str, str]] = {}
    loose: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        found = split_key(key)
        if found is None:
            loose[key] = tensor
            continue
        module, slot = found
        slots = modules.setdefault(module, {})
        if slot in slots:
            raise FormatError(
                f"Reading {where!r}: {key!r} and {keys[module][slot]!r} both name {slot} of {module!r}."
            )
        slots[slot] = tensor
        keys.setdefault(module, {})[slot] = key
    _claim_scalings(modules, keys, loose)
    return Keyed(modules, keys, loose)


def _claim_scalings(
    modules: dict[str, dict[str, Tensor]],
    keys: dict[str, dict[str, str]],
    loose: dict[str, Tensor],
) -> None:
    """IA3's `weight`: an ending that means nothing unless `on_input` stands beside it."""
    for module in _with(modules, "on_input"):
        key = f"{module}.weight"
        if key in loose:
            modules[module]["weight"] = loose.pop(key)
            keys[module]["weight"] = key


def _with(modules: Mapping[str, Mapping[str, Tensor]], slot: str) -> Iterable[str]:
    return [module for module, slots in modules.items() if slot in slots]


def _without_processor(module: str) -> str | None:
    """`attn1.processor.to_q_lora` is the layer `attn1.to_q`; XLabs numbers the two streams instead."""
    head, _, last = module.rpartition(".")
    found = PROCESSOR.match(last)
    if found is None:
        return None
    if head.endswith("processor") and (found[2] or found[1] in ("qkv", "proj")):
        return module  # XLabs: the number says which stream
    head = head.removesuffix("processor").rstrip(".")
    # the processor adds to the linear layer
    name = "to_out.0" if found[1] == "to_out" else found[1]
    return f"{head}.{name}" if head else name
