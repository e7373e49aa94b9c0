"""Alignment to a template: the paper's O-Align, which fixes the O(r) part of the gauge.

    q = argmin over O(r) of |u q - s|^2 + |v q - t|^2,    (s, t) the template's pair
    M = u^T s + v^T t = a diag(sigma) b^T,    q = a b^T

(arXiv 2410.04207, section 4; orthogonal Procrustes, Schonemann 1966.) The result is the same for every
point of an O(r) orbit wherever M has full rank; where M is singular the minimiser is not unique, and near
such points the map is not continuous. It is not invariant under GL(r): (2u, v/2) aligns to something else.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.errors import DataError, SignatureError

__all__ = ["align", "procrustes"]


def procrustes(
    u: Tensor,  # (..., r, n)
    v: Tensor,  # (..., r, m)
    template_u: Tensor,  # (..., r, n)
    template_v: Tensor,  # (..., r, m)
) -> Tensor:  # (..., r, r)
    """The orthogonal q that brings stacked factors nearest to a template's, to be applied by `act_stacked`.

    Computed in float32, or float64 for float64 factors. Differentiable where M's singular values differ.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    u, v, s, t = (x.to(dtype) for x in (u, v, template_u, template_v))
    left, _, right_t = torch.linalg.svd(u @ s.mT + v @ t.mT)
    q: Tensor = left @ right_t
    return q


def align(batch: LoRABatch, template: LoRABatch) -> LoRABatch:
    """Align every LoRA of a batch to one template.

    A LoRA of lower rank than the template spreads over all of the template's columns: its update stays
    the same, its `ranks` become the common rank. The lower rank loses no uniqueness, because q acts on a
    zero column wherever it is not determined.

    Args:
        batch: b LoRAs.
        template: one LoRA of the same layers; the lower of the two ranks is padded with zeros.

    Raises:
        SignatureError: the two have other layers.
        DataError: the template is not exactly one LoRA.

    Example:
        >>> from lorascope.symmetry import act, random_gauges
        >>> from lorascope.core import LoRA, LowRank, collate
        >>> batch = collate([LoRA({"q": LowRank(torch.randn(9, 2), torch.randn(7, 2))})] * 3)
        >>> moved = act(random_gauges(batch, orthogonal=True), batch)
        >>> template = batch.select([0])
        >>> torch.allclose(align(moved, template).groups[0].u, batch.groups[0].u, atol=1e-4)
        True
    """
    if batch.signature.layers != template.signature.layers:
        raise SignatureError(
            f"Aligning {batch.size} LoRAs to a template: found {len(batch.signature)} layers against "
            f"{len(template.signature)} that are not the same, expected one signature. "
            "Try: collate() both under one signature."
        )
    if template.size != 1:
        raise DataError(
            f"Aligning to a template: found {template.size} LoRAs as the template, expected 1. "
            "Try: batch.select([row])."
        )
    rank = max(batch.rank, template.rank)
    padded, target = batch.pad(rank), template.pad(rank)
    groups = []
    for x, y in zip(padded.groups, target.groups, strict=True):
        q = procrustes(x.u, x.v, y.u, y.v)
        # q is orthogonal, so that q^-1 = q^T and both factors move alike
        groups.append(GroupBatch(_move(q, x.u), _move(q, x.v)))
    ragged = bool((batch.ranks != rank).any())
    ranks = batch.ranks.clamp(max=1) * rank if ragged else batch.ranks
    return replace(padded, groups=tuple(groups), ranks=ranks)


def _move(q: Tensor, x: Tensor) -> Tensor:
    return (q.mT @ x.to(q.dtype)).to(x.dtype)
