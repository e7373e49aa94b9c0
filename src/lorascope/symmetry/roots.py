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

__all__ = ["Roots", "factor_roots", "gram", "gram_roots"]

FARTHEST_SPAN = 16.0  # 1 / d^2, at most, for Cholesky
FEW_ROWS = 4  # of matrices that are decomposed all at once, and not one by one
SMALLEST = 1e-15  # length of a row whose products may underflow in float32
BLOCK_NUMBERS = 2**20
"""Factors are converted, and decomposed by QR, in blocks of this size, which stay in the cache: QR copies its
input, and writing fresh memory costs three times as much as the QR itself (54 ms in one piece, 16 ms in blocks,
for 88 MB)."""


@dataclass(frozen=True, eq=False)
class Roots:
    """R of both factors of every layer of a batch, layers in group order, in float64."""

    u: Tensor  # (l, b, r, r)
    v: Tensor  # (l, b, r, r)

    @cached_property
    def joined(self) -> Tensor:  # (l, b, r, r)
        """R_u R_v^T, which has the singular values of the update."""
        return self.u @ self.v.mT


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
    count = len(batch.groups)
    found = factor_roots([g.u for g in batch.groups] + [g.v for g in batch.groups], grams)
    return Roots(torch.cat(found[:count]), torch.cat(found[count:]))


@torch.no_grad()
def factor_roots(
    factors: Sequence[Tensor],  # (..., r, n) each
    grams: Sequence[Tensor] | None = None,  # (..., r, r) each
) -> list[Tensor]:  # (..., r, r) each
    """The roots of some stacked factors of one rank, in float64."""
    known = map(gram, factors) if grams is None else (g.reshape(-1, *g.shape[-2:]) for g in grams)
    roots, safe = _cholesky(torch.cat(list(known)).double())
    unsafe = (~safe).nonzero().flatten()
    out, start = [], 0
    for x in factors:
        count = x.shape[:-2].numel()
        part = roots[start : start + count]
        if len(unsafe):
            inside = unsafe[(unsafe >= start) & (unsafe < start + count)] - start
            part[inside] = _carefully(x, inside)
        out.append(part.view(*x.shape[:-1], x.shape[-2]))
        start += count
    return out


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


def _cholesky(square: Tensor) -> tuple[Tensor, Tensor]:  # (N, r, r) -> (N, r, r), (N,) bool
    """The upper factor, and where it can be relied on. A row of zeros, as padding has, is a column of zeros."""
    square = square.permute(1, 2, 0).contiguous()  # (r, r, N): one step is a loop over all N
    length = square.diagonal().T.sqrt()  # (r, N)
    inverse = torch.where(length > 0, 1 / length, 0.0)
    even = square * inverse.unsqueeze(1) * inverse
    even.diagonal().fill_(1.0)
    lower, span = _eliminate(even) if len(even) <= FEW_ROWS else _by_lapack(even)
    # a step that failed leaves no number
    safe = (span <= FARTHEST_SPAN).all(0) & ((length == 0) | (length > SMALLEST)).all(0)
    return (lower * length.unsqueeze(1)).permute(2, 1, 0).contiguous(), safe


def _eliminate(even: Tensor) -> tuple[Tensor, Tensor]:  # (r, r, N) -> (r, r, N), (r, N)
    """The lower factor, and the diagonal of the inverse: 1 / d^2 of each row. `even` is used up."""
    lower, turned = torch.zeros_like(even), torch.zeros_like(even)  # turned: the inverse of lower
    for k in range(len(even)):
        pivot = even[k, k].rsqrt()
        column = torch.mul(even[k:, k], pivot, out=lower[k:, k])[1:]
        even[k + 1 :, k + 1 :] -= column.unsqueeze(1) * column
        turned[k, k] = pivot
        done = lower[k, :k].unsqueeze(1) * turned[:k, :k]
        turned[k, :k] = done.sum(0) * -pivot
    return lower, turned.square().sum(0)


def _by_lapack(even: Tensor) -> tuple[Tensor, Tensor]:  # (r, r, N) -> (r, r, N), (r, N)
    """The same for many rows, matrix by matrix."""
    lower, info = torch.linalg.cholesky_ex(even.permute(2, 0, 1))
    eye = torch.eye(len(even), dtype=even.dtype, device=even.device).expand_as(lower)
    span = torch.linalg.solve_triangular(lower, eye, upper=False).square().sum(-2)
    span = torch.where((info == 0).unsqueeze(1), span, torch.nan)
    return lower.permute(1, 2, 0), span.T


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
