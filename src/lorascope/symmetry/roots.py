"""Roots of Gram matrices: an r x r matrix R for every factor x (r rows), with R^T R = x x^T.

    u v^T = q_u (R_u R_v^T) q_v^T    with q^T q = 1

so that R_u R_v^T has the norm and the singular values of the update, and R^T R is the Gram matrix itself. All
invariants of a batch that need no directions go through these: the factors are read once.

A Gram matrix costs half of a QR decomposition, but its rounding grows with the square of the condition. So R
is its Cholesky factor where every row of x, at unit length, stands far from the span of the others; where one
does not, it is taken from x by Householder's QR. With d the sine of the smallest such angle, singular values of
u v^T carry a *relative* error of about eps / d^2 each, however small they are (Ostrowski's theorem): 3e-6 for
d^2 >= 1 / 16 in float32. At rank 4, QR is left to 1 % of the factors u of language adapters in the zoos and
31 % of those of images (78 % at rank 16), and to no v: A, drawn at random, stays well conditioned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.symmetry.small_cholesky import small_cholesky
from lorascope.symmetry.small_svd import small_svd

__all__ = ["Roots", "factor_roots", "gram", "gram_roots"]

FARTHEST_SPAN = 16.0  # 1 / d^2, at most, for Cholesky
BLOCK_NUMBERS = 2**20
"""Factors are converted, and decomposed by QR, in blocks of this size, which stay in the cache: QR copies its
input, and writing fresh memory costs three times as much as the QR itself (54 ms in one piece, 16 ms in blocks,
for 88 MB)."""


@dataclass(frozen=True, eq=False)
class Roots:
    """R of both factors of every layer of a batch, layers in group order, in float64."""

    u: Tensor  # (l, b, r, r)
    v: Tensor  # (l, b, r, r)
    dtype: torch.dtype = torch.float64  # as accurate as the factors deserve, float32 at least

    @cached_property
    def joined(self) -> Tensor:  # (l, b, r, r)
        """R_u R_v^T, which has the singular values of the update."""
        return self.u @ self.v.mT

    @cached_property
    def values(self) -> Tensor:  # (l, b, r)
        """Falling singular values of the update."""
        if self.dtype == torch.float64:
            values: Tensor = torch.linalg.svdvals(self.joined)
            return values
        return small_svd(self.u, self.v)


@torch.no_grad()
def gram_roots(batch: LoRABatch, grams: Sequence[Tensor] | None = None) -> Roots:
    """The roots of all Gram matrices of a batch. No gradient goes through them.

    `grams` are those of all u, then of all v, (l, b, r, r) each, where they are known already.

    Under g: R_u R_v^T only turns, since its singular values are those of u v^T.

    Example:
        >>> from lorascope.core import LoRA, LowRank, collate
        >>> roots = gram_roots(collate([LoRA({"q": LowRank(torch.ones(3, 1), torch.ones(4, 1))})]))
        >>> roots.joined.square().round().tolist()
        [[[[12.0]]]]
    """
    factors = [g.u for g in batch.groups] + [g.v for g in batch.groups]
    shape = (2, len(batch.signature), batch.size, batch.rank, batch.rank)
    u, v = _roots(factors, grams).view(shape)
    return Roots(u, v, torch.promote_types(batch.dtype, torch.float32))


@torch.no_grad()
def factor_roots(factors: Sequence[Tensor]) -> list[Tensor]:  # (..., r, n) each -> (..., r, r) each
    """The roots of some stacked factors of one rank, in float64."""
    counts = [x.shape[:-2].numel() for x in factors]
    parts = torch.split(_roots(factors), counts)
    shapes = [(*x.shape[:-1], x.shape[-2]) for x in factors]
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _roots(factors: Sequence[Tensor], grams: Sequence[Tensor] | None = None) -> Tensor:
    """The roots of some stacked factors (..., r, n), one after another: (N, r, r)."""
    known = map(gram, factors) if grams is None else (g.flatten(0, -3) for g in grams)
    roots, safe = small_cholesky(torch.cat(list(known)).double(), FARTHEST_SPAN)
    unsafe, start = (~safe).nonzero().flatten(), 0
    for x in factors if len(unsafe) else ():
        stop = start + x.shape[:-2].numel()
        inside = unsafe[(unsafe >= start) & (unsafe < stop)]
        roots[inside] = _carefully(x, inside - start)
        start = stop
    return roots


@torch.no_grad()
def gram(x: Tensor) -> Tensor:  # (..., r, n) -> (N, r, r)
    """x x^T, in at least float32. On a CPU no other product of torch or numpy is faster for small r.

    Example:
        >>> gram(torch.ones(2, 1, 3)).tolist()
        [[[3.0]], [[3.0]]]
    """
    if x.ndim == 4 and not x.is_contiguous() and len(x):
        # part of a batch: copying it would cost more than a product a layer
        return torch.cat([gram(layer) for layer in x])
    rows = x.reshape(x.shape[:-2].numel(), *x.shape[-2:])
    if x.dtype in (torch.float32, torch.float64):
        return torch.bmm(rows, rows.mT)
    wide = (part.float() for part in torch.split(rows, _block(x)))
    return torch.cat([torch.bmm(part, part.mT) for part in wide])


def _carefully(x: Tensor, places: Tensor) -> Tensor:  # (..., r, n), (k,) -> (k, r, r) float64
    """Roots of the factors at some places that do not square the condition where the type could tell."""
    rank = x.shape[-2]
    layers = x.reshape(x.shape[:-2].numel(), *x.shape[-2:]) if x.ndim != 4 else x
    found = []
    for block in torch.split(places, _block(x)):
        # a batch is indexed by layer and LoRA: flattening a part of one would copy it
        rows = layers[block] if x.ndim != 4 else layers[block // x.shape[1], block % x.shape[1]]
        rows = rows.to(torch.promote_types(x.dtype, torch.float32))
        if rows.is_cuda and rows.dtype == torch.float32:
            found.append(_eigen_root(rows.double()))
        else:
            # mode "r" returns no q; the triangle has min(r, n) rows
            triangle = torch.linalg.qr(rows.mT, mode="r").R.double()
            found.append(torch.nn.functional.pad(triangle, (0, 0, 0, rank - triangle.shape[-2])))
    return torch.cat(found)


def _eigen_root(rows: Tensor) -> Tensor:  # (k, r, n) -> (k, r, r)
    """By the eigenvectors of the Gram matrix in float64, 1e-8 of the largest: a small QR is slow on a GPU."""
    values, vectors = torch.linalg.eigh(rows @ rows.mT)
    root: Tensor = values.clamp(min=0).sqrt().unsqueeze(-1) * vectors.mT
    return root


def _block(x: Tensor) -> int:
    """How many factors are worked on at once."""
    most = BLOCK_NUMBERS if x.device.type == "cpu" else 64 * BLOCK_NUMBERS
    return max(1, most // max(1, x.shape[-1] * x.shape[-2]))
