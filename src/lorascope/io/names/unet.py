"""The UNet of SD1, SD2 and SDXL: CompVis' numbered blocks (sgm) -> the names of diffusers.

    input_blocks.4.1.proj_in   -> down_blocks.1.attentions.0.proj_in
    output_blocks.2.1.conv     -> up_blocks.0.upsamplers.0.conv

Two resnets a block, so the i-th of the input blocks is layer (i - 1) % 3 of block (i - 1) // 3; the third is
the downsampler. Source: diffusers 0.42.1, loaders/lora_conversion_utils.py.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["from_sgm"]

RESNET: Mapping[str, str] = MappingProxyType(
    {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
        "skip_connection": "conv_shortcut",
    }
)
LOOSE: Mapping[str, str] = MappingProxyType(
    {
        "input_blocks.0.0": "conv_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
    }
)
MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}


def from_sgm(path: str) -> str | None:
    """The diffusers name of a module of the CompVis UNet, None if it has no such module."""
    if path in LOOSE:
        return LOOSE[path]
    kind, _, rest = path.partition(".")
    number, _, rest = rest.partition(".")
    if kind == "middle_block":
        return _inside(f"mid_block.{MIDDLE[number]}", rest) if number in MIDDLE and rest else None
    inner, _, rest = rest.partition(".")
    if kind not in ("input_blocks", "output_blocks") or not number.isdecimal() or not rest:
        return None
    if kind == "input_blocks":
        block, layer = divmod(int(number) - 1, 3)
        if rest == "op":
            return f"down_blocks.{block}.downsamplers.0.conv"
        where = f"down_blocks.{block}"
    else:
        block, layer = divmod(int(number), 3)
        where = f"up_blocks.{block}"
        if rest == "conv":
            return f"{where}.upsamplers.0.conv"
    part = {"0": "resnets", "1": "attentions"}.get(inner)
    return _inside(f"{where}.{part}.{layer}", rest) if part else None


def _inside(where: str, rest: str) -> str | None:
    if ".resnets." not in where:
        return f"{where}.{rest}"
    return f"{where}.{RESNET[rest]}" if rest in RESNET else None
