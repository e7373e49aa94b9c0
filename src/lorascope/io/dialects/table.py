"""Which dialect a file speaks, by its keys: the visible table of marks, tried in order.

The order matters: `lora_A` is PEFT's and also in the keys of many others, whose prefixes come first.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lorascope.errors import FormatError

__all__ = ["MARKS", "recognise"]

ALGORITHMS = r"(?:hada_[wt]\d|lokr_[wt]\d|oft_blocks|w_norm|on_input|a1\.weight|diff)"
COMPONENT = r"(?:unet|transformer(?:_2)?|text_encoder(?:_\d)?|prior)"


@dataclass(frozen=True)
class Mark:
    """A pattern over all keys, a line each, and a part that it needs, which is looked for first."""

    needle: str
    pattern: re.Pattern[str]

    def search(self, text: str) -> bool:
        """Whether a key carries the mark."""
        return self.needle in text and self.pattern.search(text) is not None


def _mark(pattern: str, needle: str = "") -> Mark:
    return Mark(needle, re.compile(pattern, re.MULTILINE))


MARKS: Mapping[str, Mark] = MappingProxyType(
    {
        "cloneofsimo": _mark(r"^\w+:\d+:(?:up|down)$", ":"),
        "mlx": _mark(r"\.lora_[ab]$", ".lora_"),
        "torchtune": _mark(r"\.lora_[ab]\.weight$", ".lora_"),
        "lycoris": _mark(rf"^lycoris_|^(?:lora|oft)_\w+\.{ALGORITHMS}", "_"),
        "kohya": _mark(r"^(?:lora_(?:unet|te\d?|transformer|prior)_|oft_)\w+\.", "_"),
        "xlabs": _mark(
            r"_blocks\.\d+\.processor\.(?:qkv|proj)_lora\d?\.(?:down|up)", ".processor."
        ),
        "peft": _mark(r"^base_model\.model\.", "base_model.model."),
        "comfy": _mark(r"^(?:(?:model\.)?diffusion_model|text_encoders)\.", "."),
        "diffusers": _mark(
            rf"_lora\.(?:down|up)\.weight$|^{COMPONENT}\..*(?:lora_[AB]|\.lora\.|lora_linear)",
            "lora",
        ),
        "bfl": _mark(r"^(?:double_blocks|single_blocks)\.\d+\..*lora_[AB]", "e_blocks."),
        "original": _mark(
            rf"\.alpha$|\.lora_(?:down|up)\.weight$|\.dora_scale$|\.{ALGORITHMS}"
            r"|\.(?:lora|lora_linear_layer)\.(?:down|up)\.weight$"
        ),
    }
)
PEFT_MARK = _mark(
    r"(?:^|\.)(?:lora_(?:embedding_)?[AB]|hada_w\d_[ab]|lokr_w\d(?:_[ab])?)(?:\.|$)", "_"
)


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
