"""PEFT's LoHa and LoKr: the factors are LyCORIS' and so are the equations; the scale is PEFT's.

    LoHa    update = s (a1 b1) * (a2 b2)        s = alpha/r
    LoKr    update = s kron(w1, w2)             s = alpha/r, also of two whole factors

Of two whole factors only the configuration knows r. A convolution that is not in Tucker form lies flat in the
file, (n, in k..): its kernel is not known then. For a w2 (p, q, k) of Conv1d PEFT takes the product of other
axes, with w1 as (1, n/p, m/q), and so does this. Source: peft 0.21.2, tuners/loha/layer.py, lokr/layer.py.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorascope.core import LowRank
from lorascope.io.factors import as_float, fold
from lorascope.io.modules import Built, Parts, build_module
from lorascope.io.peft.config import PeftConfig
from lorascope.io.peft.keys import NATIVE
from lorascope.io.room import Room

__all__ = ["build_factors", "is_native"]

WHOLE = ("lokr_w1", "lokr_w2")


def is_native(slots: Mapping[str, Tensor]) -> bool:
    """Whether a module is one of LoHa or LoKr."""
    return any(slot in NATIVE for slot in slots)


def build_factors(
    layer: str, slots: Mapping[str, Tensor], config: PeftConfig, where: str, room: Room, rule: str
) -> Built:
    """The update of one module.

    Args:
        layer: its name, for messages.
        slots: its tensors.
        room: what the modules of the file may expand to.
        rule: the path that the rules of the configuration match.

    Raises:
        FormatError: a factor is missing, or shapes do not go together.
        HostileFileError: a rank or a size is above its cap.
    """
    scale = config.scale_of(rule, _rank(slots, config, rule))
    if all(slot in slots for slot in WHOLE):
        # LyCORIS has no scale there, PEFT has
        whole = as_float(slots["lokr_w1"], f"{layer}.lokr_w1", where)
        slots = {**slots, "lokr_w1": fold(whole, scale.factor)}
    built = build_module(Parts(layer, slots, where, scale, room=room))
    pair = built.pair
    if "lokr_w2" in slots and slots["lokr_w2"].ndim == 3:
        pair = _crossed(
            Parts(layer, slots, where, scale, room=room),
            1.0 if "lokr_w1" in slots else scale.factor,
        )
    return Built(pair, scale, kind=built.kind, used=built.used)


def _crossed(parts: Parts, factor: float) -> LowRank:
    """The matrix itself, whose product of factors has the axes of the kernel and the inputs crossed."""
    w2 = parts.factor("lokr_w2").to(parts.wide)
    w1 = (
        parts.matrix("lokr_w1")
        if "lokr_w1" in parts
        else parts.matrix("lokr_w1_a") @ parts.matrix("lokr_w1_b")
    )
    n, m, kernel = w1.shape[0] * w2.shape[0], w1.shape[1] * w2.shape[1], w2.shape[2]
    parts.room_for(n, m * kernel)
    product = torch.kron(w1.contiguous(), w2.contiguous()).reshape(n, m * kernel) * factor
    small = min(product.shape)
    parts.room_for(small, small)
    eye = torch.eye(small, dtype=product.dtype)
    pair = (product, eye) if m * kernel <= n else (eye, product.T)
    return LowRank(*pair, (kernel,))


def _rank(slots: Mapping[str, Tensor], config: PeftConfig, rule: str) -> int:
    """r as the tensors show it; of two whole factors only the configuration knows it."""
    for slot in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if slot in slots and slots[slot].ndim:
            return max(slots[slot].shape[0], 1)
    return config.rank_of(rule) or 1
