"""Gram matrices of LoRAs: G_ij = sum over layers of <dW_i, dW_j>, exact, without a dense update.

    <u v^T, s t^T> = sum over a, b in r x r of (u^T s)_ab (v^T t)_ab

For a block of rows against a block of columns this is two matrix products a layer, (R r, n) (n, C r) and
(R r, m) (m, C r), an elementwise product, and a sum over each r x r cell. N LoRAs of L layers cost about
N^2 r^2 (n + m) L multiplications (half that when symmetric) and 3 (block r)^2 values of scratch memory.

"cosine" divides each layer's inner product by the two norms before it averages over layers: direction
without size. A layer that is zero or missing on either side counts 0.
"""

from typing import Literal

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.errors import SignatureError

__all__ = ["gram", "layer_norms"]


def gram(
    a: LoRABatch,
    b: LoRABatch | None = None,
    *,
    kind: Literal["raw", "cosine"] = "raw",
    block: int = 256,
) -> Tensor:  # (N, M)
    """Inner products between the LoRAs of two batches, or of one with itself.

    Args:
        a: N LoRAs.
        b: M LoRAs of the same layers; `a` itself by default, and then only half is computed.
        kind: "raw" sums the layers' inner products, "cosine" averages the layers' cosines.
        block: LoRAs a block; scratch memory is 3 (block r)^2 values.

    Returns:
        (N, M), in the type of the factors, at least float32.

    Raises:
        SignatureError: the two batches have other layers.

    Source: the kernels on updates of arXiv 2410.04207's setting; the trace identity is <A,B> = tr(A^T B).

    Example:
        >>> from lorascope.core.batch import collate
        >>> from lorascope.core.lora import LoRA
        >>> from lorascope.core.low_rank import LowRank
        >>> one = LoRA({"q": LowRank(torch.ones(2, 1), torch.ones(3, 1))})
        >>> gram(collate([one, 2 * one])).tolist()
        [[6.0, 12.0], [12.0, 24.0]]
    """
    other = a if b is None else b
    if a.signature.layers != other.signature.layers:
        raise SignatureError(
            f"Computing a Gram matrix: the batches have {len(a.signature)} and {len(other.signature)} "
            "layers that are not the same, expected one signature. Try: collate() both under one."
        )
    left = _unit(a) if kind == "cosine" else a
    right = left if b is None else _unit(other) if kind == "cosine" else other
    dtype = torch.promote_types(torch.promote_types(a.dtype, other.dtype), torch.float32)
    out = torch.zeros(a.size, other.size, dtype=dtype, device=a.device)
    for i in range(0, a.size, block):
        for j in range(i if b is None else 0, other.size, block):
            rows, cols = slice(i, i + block), slice(j, j + block)
            out[rows, cols] = _cell(left.select(rows), right.select(cols), dtype)
    if b is None:
        out = torch.triu(out) + torch.triu(out, 1).T
    return out / max(len(a.signature), 1) if kind == "cosine" else out


def layer_norms(batch: LoRABatch) -> tuple[Tensor, ...]:  # one (l, b) a shape group
    """Frobenius norm of every layer's update, by Gram traces in float64, in at least float32."""
    dtype = torch.promote_types(batch.dtype, torch.float32)
    norms = []
    for group in batch.groups:
        u, v = group.u.double(), group.v.double()
        square = ((u @ u.mT) * (v @ v.mT)).sum((-1, -2))
        norms.append(square.clamp(min=0).sqrt().to(dtype))
    return tuple(norms)


def _unit(batch: LoRABatch) -> LoRABatch:
    """The batch with every layer's update divided by its norm (zero stays zero), put into u."""
    groups = []
    for group, norms in zip(batch.groups, layer_norms(batch), strict=True):
        inverse = torch.where(norms > 0, 1 / norms, 0.0)[..., None, None]
        groups.append(GroupBatch(group.u.to(norms.dtype) * inverse, group.v))
    return batch.with_groups(groups)


def _cell(left: LoRABatch, right: LoRABatch, dtype: torch.dtype) -> Tensor:  # (R, C)
    """One block: the products of all layers are added up first, the r x r cells summed once."""
    if (
        left.rank == 0 or right.rank == 0
    ):  # no layer on one side: nothing to sum, and no cells to view
        return torch.zeros(left.size, right.size, dtype=dtype, device=left.device)
    total = torch.zeros(
        left.size * left.rank, right.size * right.rank, dtype=dtype, device=left.device
    )
    for a, b in zip(left.groups, right.groups, strict=True):
        # one layer at a time keeps the scratch memory at one block; each product is still a large one
        for u, s, v, t in zip(a.u, b.u, a.v, b.v, strict=True):
            total.addcmul_(_product(u, s, dtype), _product(v, t, dtype))
    # rows first: adding whole rows is a contiguous reduction, the strided one is then r times smaller
    rows = total.view(left.size, left.rank, -1).sum(1)
    return rows.view(left.size, right.size, right.rank).sum(2)


def _product(
    a: Tensor, b: Tensor, dtype: torch.dtype
) -> Tensor:  # (R, r, n), (C, q, n) -> (R r, C q)
    """All inner products of columns."""
    return a.flatten(0, 1).to(dtype) @ b.flatten(0, 1).to(dtype).T
