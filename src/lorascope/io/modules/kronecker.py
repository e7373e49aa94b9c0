"""LoKr: a Kronecker product, of low rank where at least one of its factors is decomposed.

    update = s kron(w1, w2)               w1: (p, q)   w2: (n/p, m/q [, k..])
    w1 = a1 b1, w2 = a2 b2                u = s kron(a1, a2)    v = kron(b1, b2)^T      rank r r
    w1 whole,   w2 = a2 b2                w1 stands for a1 (q <= p) or for b1 (p < q), the other is 1
    Tucker form                           a2^T stands for a2, and t x b2 over in, k.. for b2

Two whole factors are of rank up to rank(w1) rank(w2): they are kept as they are, their scale is 1 and alpha
counts for nothing. The rank r of the scale is that of w2 where it is decomposed, else of w1.
Source: lycoris 4.1.3, modules/lokr.py and functional/lokr.py.
"""

import math

import torch
from torch import Tensor

from lorascope.core.lora import Scale, Side
from lorascope.io.modules.hadamard import narrow
from lorascope.io.modules.parts import Built, Parts, alpha_scale, join
from lorascope.io.peft.pair import check_rank

__all__ = ["build_kronecker"]

USED = frozenset(
    {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "alpha"}
)


def build_kronecker(parts: Parts) -> Built:
    """The pair of a LoKr module, or its two whole factors. Raises FormatError for shapes that do not fit."""
    whole_1, whole_2 = "lokr_w1" in parts, "lokr_w2" in parts
    if whole_1 and whole_2:
        return _whole(parts)
    a1, b1 = _first(parts)
    if whole_2:
        w2 = parts.factor("lokr_w2")
        kernel = tuple(w2.shape[2:])
        a2, b2 = _unit(parts.matrix("lokr_w2"))
        rank = a1.shape[1]
    else:
        a2, b2, kernel = _second(parts)
        rank = a2.shape[1]
    scale = alpha_scale(parts, rank)
    check_rank(parts.layer, a1.shape[1] * a2.shape[1], parts.where)
    n, m = a1.shape[0] * a2.shape[0], b1.shape[1] * b2.shape[1]
    parts.room_for(n + m, a1.shape[1] * a2.shape[1])
    pair = join(torch.kron(a1 * scale.factor, a2), torch.kron(b1, b2).T, kernel)
    if pair.rank > min(pair.shape):
        pair = narrow(pair)
    return Built(pair, scale, kind="conv" if kernel else None, used=USED)


def _whole(parts: Parts) -> Built:
    w1, w2 = parts.factor("lokr_w1"), parts.factor("lokr_w2")
    alpha = parts.slots.get("alpha")
    raw = None if alpha is None or alpha.numel() != 1 else float(alpha)
    return Built(
        scale=Scale(raw, 1, 1.0, "1 (two whole factors)"),
        side={"lokr_w1": Side("native", w1), "lokr_w2": Side("native", w2)},
        notes={
            "kronecker": "layers are Kronecker products of two whole factors, which are kept beside; "
            "their scale is 1"
        },
        used=USED,
    )


def _first(parts: Parts) -> tuple[Tensor, Tensor]:
    if "lokr_w1" in parts:
        return _unit(parts.matrix("lokr_w1"))
    a, b = parts.factor("lokr_w1_a"), parts.factor("lokr_w1_b")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise parts.misfit("lokr_w1_a", "lokr_w1_b")
    return parts.matrix("lokr_w1_a"), parts.matrix("lokr_w1_b")


def _second(parts: Parts) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    a, b = parts.factor("lokr_w2_a"), parts.factor("lokr_w2_b")
    if "lokr_t2" in parts:
        middle = parts.factor("lokr_t2")
        rank, kernel = a.shape[0], tuple(middle.shape[2:])
        if a.ndim != 2 or b.ndim != 2 or middle.shape[:2] != (rank, b.shape[0]):
            raise parts.misfit("lokr_w2_a", "lokr_w2_b", "lokr_t2")
        parts.room_for(rank, b.shape[1], math.prod(kernel))
        square = parts.matrix("lokr_t2").view(rank, b.shape[0], -1)
        wide = torch.einsum("pqk,qi->pik", square, parts.matrix("lokr_w2_b"))
        return parts.matrix("lokr_w2_a").T.contiguous(), wide.flatten(1), kernel
    if a.ndim != 2 or a.shape[1] != b.shape[0]:
        raise parts.misfit("lokr_w2_a", "lokr_w2_b")
    return parts.matrix("lokr_w2_a"), parts.matrix("lokr_w2_b"), tuple(b.shape[2:])


def _unit(whole: Tensor) -> tuple[Tensor, Tensor]:
    """A whole matrix as a product of itself and the unit matrix on its shorter side."""
    p, q = whole.shape
    if q <= p:
        return whole, torch.eye(q, dtype=whole.dtype)
    return torch.eye(p, dtype=whole.dtype), whole
