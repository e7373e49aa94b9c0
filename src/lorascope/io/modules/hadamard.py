"""LoHa: the entrywise product of two low-rank products, itself of rank r^2.

    update = s (a1 b1) * (a2 b2)          a: (n, r)   b: (r, m)
    u[:, pq] = s a1[:, p] a2[:, q]        v[:, pq] = b1[p] b2[q]         (row- and column-wise Khatri-Rao)

    Tucker form (t: (r, r, k..), a: (r, n), b: (r, in)):  a -> a^T, b -> t x b over in, k..

Where r^2 is above half of min(n, m), the pair is brought by QR to at most min(n, m) columns, exactly.
Source: lycoris 4.1.3, functional/loha.py.
"""

import math

import torch
from torch import Tensor

from lorascope.core.low_rank import LowRank
from lorascope.io.modules.parts import Built, Parts, alpha_scale, join

__all__ = ["build_hadamard", "narrow"]

USED = frozenset(
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha"}
)


def build_hadamard(parts: Parts) -> Built:
    """The pair of a LoHa module. Raises FormatError for shapes that do not go together."""
    a1, b1, kernel = _half(parts, "1")
    a2, b2, kernel_2 = _half(parts, "2")
    (n, rank), m = a1.shape, b1.shape[1]
    if kernel != kernel_2 or a2.shape != (n, rank) or b2.shape != (rank, m):
        raise parts.misfit("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    scale = alpha_scale(parts, rank)
    if rank**2 > min(n, m):
        # as many columns as the matrix has: the matrix itself is the smaller
        parts.room_for(n, m)
        product = (a1 @ b1).mul_(a2 @ b2).mul_(scale.factor)
        eye = torch.eye(min(n, m), dtype=product.dtype)
        pair = LowRank(product, eye, kernel) if m <= n else LowRank(eye, product.T, kernel)
        return Built(pair, scale, kind="conv" if kernel else None, used=USED)
    parts.room_for(n + m, rank**2)
    u = (a1 * scale.factor).unsqueeze(2) * a2.unsqueeze(1)
    v = b1.T.unsqueeze(2) * b2.T.unsqueeze(1)
    pair = narrow(join(u.flatten(1), v.flatten(1), kernel))
    return Built(pair, scale, kind="conv" if kernel else None, used=USED)


def narrow(pair: LowRank) -> LowRank:
    """The same update on at most min(n, m) columns, by QR, if it has more than half as many."""
    if pair.rank <= min(pair.shape) / 2:
        return pair
    u, v = pair.u, pair.v
    if u.shape[0] <= v.shape[0]:
        q, r = torch.linalg.qr(u)
        return LowRank(q, v @ r.T, pair.kernel)
    q, r = torch.linalg.qr(v)
    return LowRank(u @ r.T, q, pair.kernel)


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
