"""Which dialect a file speaks, by its keys: the visible table of marks, tried in order.

The order matters: `lora_A` is PEFT's and also in the keys of many others, whose prefixes come first.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from lorascope.errors import FormatError

__all__ = ["MARKS", "recognise"]

ALGORITHMS = r"(?:hada_[wt]\d|lokr_[wt]\d|oft_blocks|w_norm|on_input|a1\.weight|diff)"
COMPONENT = r"(?:unet|transformer(?:_2)?|text_encoder(?:_\d)?|prior)"
MARKS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        name: re.compile(mark, re.MULTILINE)
        for name, mark in {
            "cloneofsimo": r"^\w+:\d+:(?:up|down)$",
            "mlx": r"\.lora_[ab]$",
            "torchtune": r"\.lora_[ab]\.weight$",
            "lycoris": rf"^lycoris_|^(?:lora|oft)_\w+\.{ALGORITHMS}",
            "kohya": r"^(?:lora_(?:unet|te\d?|transformer|prior)_|oft_)\w+\.",
            "xlabs": r"_blocks\.\d+\.processor\.(?:qkv|proj)_lora\d?\.(?:down|up)",
            "peft": r"^base_model\.model\.",
            "comfy": r"^(?:(?:model\.)?diffusion_model|text_encoders)\.",
            "diffusers": rf"_lora\.(?:down|up)\.weight$|^{COMPONENT}\..*(?:lora_[AB]|\.lora\.|lora_linear)",
            "bfl": r"^(?:double_blocks|single_blocks)\.\d+\..*lora_[AB]",
            "original": rf"\.alpha$|\.lora_(?:down|up)\.weight$|\.dora_scale$|\.{ALGORITHMS}"
            r"|\.(?:lora|lora_linear_layer)\.(?:down|up)\.weight$",
        }.items()
    }
)
PEFT_MARK = re.compile(r"(?:^|\.)lora_(?:embedding_)?[AB](?:\.|$)", re.MULTILINE)


def recognise(keys: Iterable[str], where: str, *, peft: bool = False) -> str:
    """The dialect of a file.

    Args:
        keys: all keys.
        where: the file, for messages.
        peft: an adapter_config.json of PEFT lies beside it.

    Raises:
        FormatError: no key names a factor of a LoRA.
    """
    names = list(keys)
    text = "\n".join(names)
    if peft and PEFT_MARK.search(text) and not MARKS["kohya"].search(text):
        return "peft"
    for name, mark in MARKS.items():
        if mark.search(text):
            return name
    if PEFT_MARK.search(text):
        return "peft"
    raise FormatError(
        f"Reading {where!r}: none of its {len(names)} keys names a factor of a LoRA (the first is "
        f"{next(iter(names), None)!r:.80}). Expected keys such as '...q_proj.lora_A.weight'."
    )
