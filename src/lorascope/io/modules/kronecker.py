"""LoKr: a Kronecker product, kept as its two factors, each whole or decomposed as the file has it.

    update = s kron(w1, w2)               w1: (p, q)   w2: (n/p, m/q [, k..])
    w1 or a1 b1, w2 or a2 b2              of rank rank(w1) rank(w2)
    Tucker form                           a2^T stands for a2, and t x b2 over in, k.. for b2

Where both factors are whole their scale is 1 and alpha counts for nothing. Else the rank r of the scale
alpha/r is that of w2 where it is decomposed, and of w1 where it is not.
Source: lycoris 4.1.3, modules/lokr.py and functional/lokr.py.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from lorascope.core import Kronecker, LowRank, Scale
from lorascope.io.factors import check_rank
from lorascope.io.modules.parts import Built, Parts, alpha_scale

__all__ = ["WHOLE_RULE", "build_kronecker"]

WHOLE_RULE = "1 (two whole factors)"
USED = frozenset(
    {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "alpha"}
)
WHOLE_NOTE: Mapping[str, str] = MappingProxyType(
    {
        "kronecker": "layers are Kronecker products of two whole factors; their scale is 1, alpha counts for "
        "nothing"
    }
)


def build_kronecker(parts: Parts) -> Built:
    """The update of a LoKr module. Raises FormatError for shapes that do not fit."""
    w1, (w2, kernel) = _first(parts), _second(parts)
    for factor in (w1, w2):
        if isinstance(factor, LowRank):
            check_rank(parts.layer, factor.rank, parts.where)
    parts.check_width(w1.shape[0] * w2.shape[0], w1.shape[1] * w2.shape[1])
    scale = _scale(parts, w1, w2)
    notes = WHOLE_NOTE if scale.rule == WHOLE_RULE else {}
    update = Kronecker(w1 * scale.factor, w2, kernel)
    return Built(update, scale, kind="conv" if kernel else None, notes=notes, used=USED)


def _scale(parts: Parts, w1: Tensor | LowRank, w2: Tensor | LowRank) -> Scale:
    decomposed = w2 if isinstance(w2, LowRank) else w1
    if isinstance(decomposed, LowRank):
        return alpha_scale(parts, decomposed.rank)
    alpha = parts.slots.get("alpha")
    raw = None if alpha is None or alpha.numel() != 1 else float(alpha)
    return Scale(raw, 1, 1.0, WHOLE_RULE)


def _first(parts: Parts) -> Tensor | LowRank:
    if "lokr_w1" in parts:
        return parts.matrix("lokr_w1")
    a, b = parts.factor("lokr_w1_a"), parts.factor("lokr_w1_b")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise parts.misfit("lokr_w1_a", "lokr_w1_b")
    return LowRank(parts.matrix("lokr_w1_a"), parts.matrix("lokr_w1_b").T)


def _second(parts: Parts) -> tuple[Tensor | LowRank, tuple[int, ...]]:
    if "lokr_w2" in parts:
        return parts.matrix("lokr_w2"), tuple(parts.slots["lokr_w2"].shape[2:])
    a, b = parts.factor("lokr_w2_a"), parts.factor("lokr_w2_b")
    if "lokr_t2" in parts:
        middle = parts.factor("lokr_t2")
        rank, kernel = a.shape[0], tuple(middle.shape[2:])
        if a.ndim != 2 or b.ndim != 2 or middle.shape[:2] != (rank, b.shape[0]):
            raise parts.misfit("lokr_w2_a", "lokr_w2_b", "lokr_t2")
        parts.room_for(rank, b.shape[1], math.prod(kernel))
        square = parts.matrix("lokr_t2").view(rank, b.shape[0], -1)
        wide = torch.einsum("pqk,qi->pik", square, parts.matrix("lokr_w2_b"))
        return LowRank(parts.matrix("lokr_w2_a").T, wide.flatten(1).T), kernel
    if a.ndim != 2 or a.shape[1] != b.shape[0]:
        raise parts.misfit("lokr_w2_a", "lokr_w2_b")
    pair = LowRank(parts.matrix("lokr_w2_a"), parts.matrix("lokr_w2_b").T)
    return pair, tuple(b.shape[2:])
