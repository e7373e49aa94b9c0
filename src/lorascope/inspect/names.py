"""What a layer's name says: its kind, and the block of the base model that it stands in.

Names are HF module paths. A number in a path is a place in a list of modules, so that
`model.layers.3.self_attn.q_proj` is of kind `model.layers.*.self_attn.q_proj` and stands in block
`model.layers.3`. Nothing here needs the base model: the names alone decide.
"""

import re

__all__ = ["Place", "block_of", "kind_of", "place_of", "printable"]

Place = tuple[tuple[int, int, str], ...]

# lists of modules that are repeated blocks; other numbers (`to_out.0`, `ff.net.2`, `experts.7`) are inside one
BLOCKS = frozenset(
    {
        "attentions",
        "block",
        "blocks",
        "double_blocks",
        "h",
        "layer",
        "layers",
        "resblocks",
        "resnets",
        "single_blocks",
        "single_transformer_blocks",
        "transformer_blocks",
    }
)
# control characters, and the marks that reorder text: a terminal would obey them
UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def kind_of(name: str) -> str:
    """The name with every number replaced by a star.

    Example:
        >>> kind_of("model.layers.3.self_attn.q_proj")
        'model.layers.*.self_attn.q_proj'
    """
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def block_of(name: str) -> str:
    """The path of the innermost repeated block that holds the layer; its first part if there is none.

    Example:
        >>> block_of("unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0")
        'unet.down_blocks.0.attentions.1.transformer_blocks.0'
        >>> block_of("classifier.dense")
        'classifier'
    """
    parts = name.split(".")
    ends = [place + 1 for place in range(1, len(parts)) if parts[place].isdecimal()]
    inner = [end for end in ends if parts[end - 2] in BLOCKS]
    if inner:
        return ".".join(parts[: inner[-1]])
    return ".".join(parts[: ends[0]]) if ends else parts[0]


def place_of(name: str) -> Place:
    """A key that sorts names as people count: `layers.2` before `layers.10`."""
    parts = name.split(".")
    return tuple((0, int(p[:18]), p) if p.isdecimal() else (1, 0, p) for p in parts)


def printable(text: object) -> str:
    """The text with everything that a terminal would obey written out as an escape.

    File names, layer names and metadata are a stranger's: none may move the cursor or reorder a line.

    Example:
        >>> printable("ok" + chr(27) + "[31m")
        'ok\\\\x1b[31m'
    """
    return UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], str(text))
