"""What the keys and shapes of a file say before a value is read: its modules, their sizes and ranks.

    key = MODULE + ending      ending -> slot: down (r, m..)  up (n, r..)  hada_w1_a ..  lokr_w1 ..  alpha  dora

Standard library only. The outline is a look at the labels, not the reading of a file (that is io's, which
knows scales and refuses what does not fit): it serves facts from headers alone, and the base's family.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["Module", "Outline", "outline_of", "split_key"]

Shape = tuple[int, ...]

SAME = (
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a",
    "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "oft_blocks", "diff", "diff_b", "w_norm",
    "b_norm", "on_input", "set_weight",
)  # fmt: skip
# the last word of a key, its ".weight" taken off -> the slot
SLOTS: Mapping[str, str] = MappingProxyType(
    {
        "lora_down": "down",
        "lora_up": "up",
        "lora_mid": "mid",
        "lora_A": "down",
        "lora_B": "up",
        "lora_embedding_A": "down",
        "lora_embedding_B": "up",
        "lora_a": "down",
        "lora_b": "up",
        "down": "down",
        "up": "up",
        "alpha": "alpha",
        "dora_scale": "dora",
        "lora_magnitude_vector": "dora",
        "magnitude": "dora",
        **{slot: slot for slot in SAME},
    }
)
BESIDE = frozenset({"alpha", "dora"})  # what a layer has beside its factors
# what some dialects leave between the module and the word: "to_q_lora.down", "q_proj.lora_linear_layer.up"
TAIL = re.compile(r"(?:\.processor)?(?:\.lora_linear_layer|\.lora|_lora)$")
PROCESSOR = ".processor."
MARKS = ("hada_w1_a", "hada_w1_b", "lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a", "oft_blocks")


@dataclass(frozen=True)
class Module:
    """One module of a file.

    Args:
        name: as the file spells it, without the ending.
        algorithm: "lora", "loha", "lokr", "oft", or "whole" for what is no product of factors.
        n, m, rank: of the update; None where the shapes do not tell.
        kernel: spatial shape of a convolution.
        missing: the half of a pair that is not there.
        values: in its factors.
    """

    name: str
    algorithm: str
    n: int | None = None
    m: int | None = None
    rank: int | None = None
    kernel: Shape = ()
    missing: str | None = None
    values: int = 0


@dataclass(frozen=True)
class Outline:
    """The modules of a file in its order, and the keys that belong to none."""

    modules: tuple[Module, ...]
    loose: tuple[str, ...]


def outline_of(shapes: Mapping[str, Shape]) -> Outline:
    """The modules that the keys of a file name.

    Args:
        shapes: key -> shape, in the order of the file.

    Example:
        >>> found = outline_of({"x.to_q.lora_A.weight": (4, 8), "x.to_q.lora_B.weight": (6, 4)})
        >>> found.modules[0].name, found.modules[0].n, found.modules[0].m, found.modules[0].rank
        ('x.to_q', 6, 8, 4)
    """
    modules: dict[str, dict[str, Shape]] = {}
    loose: list[str] = []
    for key, shape in shapes.items():
        name, slot = split_key(key)
        if slot is None:
            loose.append(key)
            continue
        # MLX keeps both factors transposed, and spells them without ".weight"
        if key.endswith((".lora_a", ".lora_b")):
            shape = shape[::-1]
        modules.setdefault(name, {})[slot] = shape
    whole = tuple(
        module_of(name, slots) for name, slots in modules.items() if slots.keys() - BESIDE
    )
    loose += [name for name, slots in modules.items() if not slots.keys() - BESIDE]
    return Outline(whole, tuple(loose))


def split_key(key: str) -> tuple[str, str | None]:
    """The module and the slot that a key names; the key itself and None if it names no factor.

    Example:
        >>> split_key("unet.mid.to_q.lora.down.weight"), split_key("unet:3:up"), split_key("a.bias")
        (('unet.mid.to_q', 'down'), ('unet:3', 'up'), ('a.bias', None))
    """
    stem = key.removesuffix(".weight")
    module, _, last = stem.rpartition(".")
    slot = SLOTS.get(last)
    if slot is None:
        module, _, last = module.rpartition(".")  # the name of an adapter: "lora_A.default"
        slot = SLOTS.get(last) if last.startswith("lora_") else None
    if slot is None and ":" in key:
        module, _, last = key.rpartition(":")
        slot = last if last in ("up", "down") else None
    if slot is None or not module:
        return key, None
    if last in ("down", "up") and module.endswith(("lora", "_layer")):
        module = TAIL.sub("", module).replace(PROCESSOR, ".")
    return module, slot


def module_of(name: str, slots: Mapping[str, Shape]) -> Module:
    """Sizes and rank of a module, from the shapes of its tensors."""
    mark = next((mark for mark in MARKS if mark in slots), None)
    if "down" in slots or "up" in slots:
        return plain(name, slots)
    if mark is None or mark == "oft_blocks":
        return Module(name, "oft" if mark else "whole")
    algorithm = mark[:4].replace("hada", "loha")
    try:
        n, m, rank = SIZES[algorithm](slots)
    except (KeyError, IndexError):
        return Module(name, algorithm, missing="a factor")
    return Module(name, algorithm, n, m, rank, values=values_of(slots))


def values_of(slots: Mapping[str, Shape]) -> int:
    """How many values the factors have together."""
    return sum(math.prod(shape) for slot, shape in slots.items() if slot not in BESIDE)


def plain(name: str, slots: Mapping[str, Shape]) -> Module:
    """A pair of down and up, or the half of it that is there."""
    down, up = slots.get("down"), slots.get("up")
    missing = "down" if down is None else "up" if up is None else None
    if (down is not None and len(down) < 2) or (up is not None and len(up) < 2):
        return Module(name, "lora", missing=missing)
    kernel = slots["mid"][2:] if "mid" in slots else down[2:] if down else ()
    # what a middle does is a pair of the same rank
    m, rank = (
        down[1] * math.prod(kernel) if down else None,
        down[0] if down else up[1] if up else None,
    )
    return Module(
        name,
        "lora",
        n=up[0] if up else None,
        m=m,
        rank=rank,
        kernel=kernel,
        missing=missing,
        values=(rank or 0) * ((up[0] if up else 0) + (m or 0)),
    )


def loha_sizes(slots: Mapping[str, Shape]) -> tuple[int, int, int]:
    """n, m and rank of w1_a (n, r), w1_b (r, m), and w2 alike; the Tucker form has them as (r, n), (r, m)."""
    a, b, ranks = slots["hada_w1_a"], slots["hada_w1_b"], 1
    for one in (a, slots["hada_w2_a"]):
        ranks *= one[0] if "hada_t1" in slots else one[1]
    if "hada_t1" in slots:
        n, m = a[1], b[1] * math.prod(slots["hada_t1"][2:])
    else:
        n, m = a[0], math.prod(b[1:])
    return n, m, min(ranks, n, m)


def lokr_sizes(slots: Mapping[str, Shape]) -> tuple[int, int, int]:
    """n, m and rank of a Kronecker product: the product of the ranks of its factors."""
    if "lokr_w1" in slots:
        one = slots["lokr_w1"]
        rank = min(one[0], one[1])
    else:
        one = slots["lokr_w1_a"][0], slots["lokr_w1_b"][1]
        rank = min(*one, slots["lokr_w1_a"][1])
    if "lokr_w2" in slots:
        n, m = slots["lokr_w2"][0], math.prod(slots["lokr_w2"][1:])
        columns = min(n, m)
    elif "lokr_t2" in slots:
        n = slots["lokr_w2_a"][1]
        m = slots["lokr_w2_b"][1] * math.prod(slots["lokr_t2"][2:])
        columns = slots["lokr_w2_a"][0]
    else:
        n, m = slots["lokr_w2_a"][0], math.prod(slots["lokr_w2_b"][1:])
        columns = slots["lokr_w2_a"][1]
    return one[0] * n, one[1] * m, rank * min(n, m, columns)


SIZES: Mapping[str, Callable[[Mapping[str, Shape]], tuple[int, int, int]]] = MappingProxyType(
    {"loha": loha_sizes, "lokr": lokr_sizes}
)
