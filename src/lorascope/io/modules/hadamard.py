"""LoHa: the entrywise product of two low-rank products, kept as both.

    update = s (a1 b1) * (a2 b2)          a: (n, r)   b: (r, m)

Tucker form (t: (r, r, k..), a: (r, n), b: (r, in)):  a -> a^T, b -> t x b over in, k..

As a pair (`Hadamard.to_low_rank`) it is of rank r^2, or the matrix itself where that is smaller.
Source: lycoris 4.1.3, functional/loha.py.
"""

import math

import torch
from torch import Tensor

from lorascope.core import Hadamard, LowRank
from lorascope.io.factors import check_rank
from lorascope.io.modules.parts import Built, Parts, alpha_scale

__all__ = ["build_hadamard"]

USED = frozenset(
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha"}
)


def build_hadamard(parts: Parts) -> Built:
    """The update of a LoHa module. Raises FormatError for shapes that do not go together."""
    a1, b1, kernel = _half(parts, "1")
    a2, b2, kernel_2 = _half(parts, "2")
    (n, rank), m = a1.shape, b1.shape[1]
    if kernel != kernel_2 or a2.shape != (n, rank) or b2.shape != (rank, m):
        raise parts.misfit("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    check_rank(parts.layer, rank, parts.where)
    scale = alpha_scale(parts, rank)
    one = LowRank(a1 * scale.factor, b1.T, kernel)
    update = Hadamard(one, LowRank(a2, b2.T, kernel))
    return Built(update, scale, kind="conv" if kernel else None, used=USED)


def _half(parts: Parts, which: str) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """a (n, r), b (r, m) and the kernel of one of the two products."""
    names = f"hada_w{which}_a", f"hada_w{which}_b", f"hada_t{which}"
    a, b = parts.factor(names[0]), parts.factor(names[1])
    if names[2] not in parts:
        if a.ndim != 2 or a.shape[1] != b.shape[0]:
            raise parts.misfit(*names[:2])
        return parts.matrix(names[0]), parts.matrix(names[1]), tuple(b.shape[2:])
    middle = parts.factor(names[2])
    kernel = tuple(middle.shape[2:])
    rank = a.shape[0]
    if b.ndim != 2 or a.ndim != 2 or b.shape[0] != rank or middle.shape[:2] != (rank, rank):
        raise parts.misfit(*names)
    parts.room_for(rank, b.shape[1], math.prod(kernel))
    square = parts.matrix(names[2]).view(rank, rank, -1)
    wide = torch.einsum("pqk,qi->pik", square, parts.matrix(names[1]))
    return parts.matrix(names[0]).T, wide.flatten(1), kernel
