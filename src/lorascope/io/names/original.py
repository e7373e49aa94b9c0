"""The way back: layers of diffusers' models -> the modules of their authors' models, which trainers spell.

    unet.down_blocks.1.attentions.0.proj_in          -> input_blocks.4.1.proj_in             SDXL
    transformer_blocks.0.attn.to_q | to_k | to_v     -> double_blocks.0.img_attn.qkv         Flux
    transformer_blocks.0.attn.to_q | to_k | to_v     -> joint_blocks.0.x_block.attn.qkv      SD3
    blocks.0.attn1.to_q                              -> blocks.0.self_attn.q                 Wan
    transformer_blocks.0.attn1.to_q                  -> blocks.0.self_attn.q_proj            Anima

The tables are those of diffusion.py and unet.py, read backwards. Flux and SD3 share names in diffusers, so an
architecture is only told by what the other has not; None where nothing tells.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from lorascope.io.names.diffusion import (
    COSMOS,
    COSMOS_OUTSIDE,
    DOUBLE,
    JOINT,
    OUTSIDE,
    SINGLE,
    TRANSFORMERS,
    WAN,
    WAN_OUTSIDE,
)
from lorascope.io.names.place import Place
from lorascope.io.names.unet import LOOSE, MIDDLE, RESNET

__all__ = ["architecture_of", "originals", "to_sgm"]

NUMBERS = re.compile(r"(single_transformer_blocks|transformer_blocks|blocks)\.(\d+)\.")
FLUX_BLOCKS = {"transformer_blocks": 19, "single_transformer_blocks": 38}
SD3_WIDTHS = (1536, 2432)
QWEN_PARTS = (".img_mlp.", ".txt_mlp.", ".img_mod.", ".txt_mod.")
OTHERS = ("token_refiner", "caption_projection", "distilled_guidance_layer", "to_qkv_mlp_proj")


def _parts(table: Mapping[str, object], inner: Iterable[str]) -> list[str]:
    parts = [part for part in table if part.endswith(("attn", "ffn"))]
    return [f"{part}.{rest}" for part in parts for rest in inner]


# architecture -> modules outside of blocks, and kind of block in diffusers -> (kind here, modules inside)
Blocks = Mapping[str, tuple[str, list[str]]]
WAN_INSIDE = _parts(WAN, ("q", "k", "v", "o", "k_img", "v_img", "norm_q", "norm_k", "0", "2"))
COSMOS_INSIDE = [
    *(part for part in COSMOS if part.startswith("mlp.")),
    *_parts(COSMOS, ("q_proj", "k_proj", "v_proj", "output_proj")),
    *(f"{part}.{n}" for part in COSMOS if part.startswith("adaln_") for n in "12"),
]
MODULES: Mapping[str, tuple[list[str], Blocks]] = MappingProxyType(
    {
        "flux": (
            list(OUTSIDE),
            {
                "transformer_blocks": ("double_blocks", list(DOUBLE)),
                "single_transformer_blocks": ("single_blocks", list(SINGLE)),
            },
        ),
        "sd3": (["final_layer.linear"], {"transformer_blocks": ("joint_blocks", list(JOINT))}),
        "wan": (list(WAN_OUTSIDE), {"blocks": ("blocks", WAN_INSIDE)}),
        "cosmos": (list(COSMOS_OUTSIDE), {"transformer_blocks": ("blocks", COSMOS_INSIDE)}),
    }
)


def architecture_of(paths: Iterable[str], width: Callable[[str], int]) -> str | None:
    """The transformer whose layers have these paths: flux, sd3, wan, cosmos, qwen; None if it is open.

    Args:
        paths: without the component.
        width: inputs of a layer.
    """
    names = list(paths)
    text = "\n".join(names)
    highest = dict.fromkeys(FLUX_BLOCKS, -1)
    for kind, number in NUMBERS.findall(text):
        if kind in highest:
            highest[kind] = max(highest[kind], int(number))
    if any(part in text for part in OTHERS):
        return None
    if re.search(r"^blocks\.\d+\.(?:attn[12]|ffn)\.", text, re.MULTILINE):
        return "wan"
    if any(part in text for part in QWEN_PARTS):
        return "qwen"
    if re.search(r"norm[123]\.linear_[12]$", text, re.MULTILINE):
        return "cosmos"
    if ".attn1." in text:
        return None  # PixArt's, LTX' and others' name
    if "single_transformer_blocks." in text:
        fits = all(highest[kind] < count for kind, count in FLUX_BLOCKS.items())
        return "flux" if fits else None  # HunyuanVideo has the names of Flux and more blocks
    queries = [name for name in names if name.endswith(".attn.to_q")]
    narrow = any(width(name) in SD3_WIDTHS for name in queries)
    return "sd3" if narrow or ".attn2." in text else None


def originals(paths: Iterable[str], architecture: str) -> dict[str, Place] | None:
    """Module -> its layers, which cover all paths; None where a path has no module.

    Example:
        >>> originals(["blocks.0.attn1.to_q"], "wan")["blocks.0.self_attn.q"].names
        ('blocks.0.attn1.to_q',)
    """
    wanted = dict.fromkeys(paths)
    table = TRANSFORMERS[architecture]
    found: dict[str, Place] = {}
    covered: set[str] = set()
    for module in _candidates("\n".join(wanted), architecture):
        place = table(module)
        if place is None or covered & set(place.names) or not wanted.keys() & set(place.names):
            continue  # XLabs' names come after the authors' and are covered then
        found[module] = place
        covered |= set(place.names)
    return found if wanted.keys() <= covered else None


def _candidates(text: str, architecture: str) -> Iterable[str]:
    outside, blocks = MODULES[architecture]
    yield from outside
    numbers = dict.fromkeys(NUMBERS.findall(text))
    for kind, number in numbers:
        if kind in blocks:
            spelled, inside = blocks[kind]
            yield from (f"{spelled}.{number}.{rest}" for rest in inside)


def to_sgm(path: str) -> str | None:
    """The module of the CompVis UNet that a layer of diffusers' SDXL UNet is; the inverse of `from_sgm`.

    Example:
        >>> to_sgm("down_blocks.1.attentions.0.proj_in")
        'input_blocks.4.1.proj_in'
    """
    loose = {ours: theirs for theirs, ours in LOOSE.items()}
    if path in loose:
        return loose[path]
    if path.startswith("mid_block."):
        for number, ours in MIDDLE.items():
            if path.startswith(f"mid_block.{ours}."):
                return _inside(f"middle_block.{number}", path.removeprefix(f"mid_block.{ours}."))
        return None
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", path)
    if found is None:
        return None
    down, block, part, layer, rest = (
        found[1] == "down",
        int(found[2]),
        found[3],
        int(found[4]),
        found[5],
    )
    if part in ("resnets", "attentions"):
        place = 3 * block + layer + (1 if down else 0)
        inner = "0" if part == "resnets" else "1"
        return _inside(f"{'input' if down else 'output'}_blocks.{place}.{inner}", rest)
    if rest != "conv":
        return None
    # in SDXL, blocks that grow have attention before
    return f"input_blocks.{3 * block + 3}.0.op" if down else f"output_blocks.{3 * block + 2}.2.conv"


def _inside(where: str, rest: str) -> str | None:
    resnet = where.endswith(".0") or where == "middle_block.2"
    if not resnet:
        return f"{where}.{rest}"
    parts = {ours: theirs for theirs, ours in RESNET.items()}
    return f"{where}.{parts[rest]}" if rest in parts else None
