"""Gram matrices of LoRAs: G_ij = sum over layers of <dW_i, dW_j>, exact, without a dense update.

    <u v^T, s t^T> = sum over a, b in r x r of (u^T s)_ab (v^T t)_ab

For a block of rows against a block of columns this is two matrix products a layer, (R r, n) (n, C r) and
(R r, m) (m, C r), an elementwise product, and a sum over each r x r cell. N LoRAs of L layers cost about
N^2 r^2 (n + m) L multiplications (half that when symmetric) and 2 (block r)^2 values of scratch memory.

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
        block: LoRAs a block; scratch memory is 2 (block r)^2 values.

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
    dtype = torch.promote_types(torch.promote_types(a.dtype, other.dtype), torch.float32)
    out = torch.zeros(a.size, other.size, dtype=dtype, device=a.device)
    weights_a = _layer_weights(a, kind, dtype)
    weights_b = weights_a if b is None else _layer_weights(other, kind, dtype)
    for number, (left, right) in enumerate(zip(a.groups, other.groups, strict=True)):
        for i in range(0, a.size, block):
            for j in range(i if b is None else 0, other.size, block):
                rows, cols = slice(i, i + block), slice(j, j + block)
                out[rows, cols] += _cell(
                    left, right, rows, cols, weights_a[number], weights_b[number]
                )
    if b is None:
        out = torch.triu(out) + torch.triu(out, 1).T
    return out / len(a.signature) if kind == "cosine" and len(a.signature) else out


def layer_norms(batch: LoRABatch) -> tuple[Tensor, ...]:  # one (l, b) a shape group
    """Frobenius norm of every layer's update, by Gram traces in float64, in at least float32."""
    dtype = torch.promote_types(batch.dtype, torch.float32)
    norms = []
    for group in batch.groups:
        u, v = group.u.double(), group.v.double()
        square = ((u @ u.mT) * (v @ v.mT)).sum((-1, -2))
        norms.append(square.clamp(min=0).sqrt().to(dtype))
    return tuple(norms)


def _layer_weights(batch: LoRABatch, kind: str, dtype: torch.dtype) -> list[Tensor | None]:
    """Per group the (l, b) factor of each LoRA's columns: none, or one over its norm."""
    if kind == "raw":
        return [None] * len(batch.groups)
    return [torch.where(x > 0, 1 / x, 0.0).to(dtype) for x in layer_norms(batch)]


def _cell(
    left: GroupBatch,
    right: GroupBatch,
    rows: slice,
    cols: slice,
    weight_left: Tensor | None,
    weight_right: Tensor | None,
) -> Tensor:  # (R, C)
    """One block, summed over the group's layers."""
    total: Tensor | None = None
    for layer in range(left.u.shape[0]):
        # one layer at a time keeps the scratch memory at one block; each product is still a large one
        u, s = left.u[layer, rows], right.u[layer, cols]
        v, t = left.v[layer, rows], right.v[layer, cols]
        size, width, rank, rank_right = u.shape[0], s.shape[0], u.shape[1], s.shape[1]
        product = _product(u, s).mul_(_product(v, t))
        cell = product.view(size, rank, width, rank_right).sum((1, 3))
        if weight_left is not None and weight_right is not None:
            cell = cell * weight_left[layer, rows, None] * weight_right[layer, None, cols]
        total = cell if total is None else total.add_(cell)
    assert total is not None  # a shape group has at least one layer
    return total


def _product(a: Tensor, b: Tensor) -> Tensor:  # (R, r, n), (C, q, n) -> (R r, C q)
    """All inner products of columns, in at least float32."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.flatten(0, 1).to(dtype) @ b.flatten(0, 1).to(dtype).T
