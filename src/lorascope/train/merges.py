"""Merges of LoRAs as their makers merge them, made of test LoRAs: what detectors are examined with, not taught.

    weighted mean   sum_i w_i dW_i, w uniform on the simplex                            rank k r
    sum             sum_i dW_i: what a concatenation of the factors is                  rank k r
    sum, old rank   its best update of the old rank: concatenated, then truncated       rank r
    factors         (mean_i u_i) (mean_i v_i)^T k: PEFT's "linear", with cross terms    rank r
    TIES            of each update the largest fifth, one sign elected for each number,
                    mean of those that have it (Yadav et al. 2023); truncated           rank r

Every LoRA is merged with others than itself, in the gauge that training left. What it is not: `pretence.blend`,
whose means the detector of merges learns from; nothing here calls it. Magnitudes stay those of the first LoRA.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.predict.pretence import cut

__all__ = ["COUNTS", "merges", "ties"]

COUNTS = (2, 3)  # LoRAs in a merge
DENSITY = 0.2  # share of an update's numbers that TIES keeps: the paper's
CHUNK = 64  # LoRAs whose dense updates are there at once


def merges(batch: LoRABatch, generator: torch.Generator) -> dict[str, LoRABatch]:
    """Every kind of merge of every LoRA with others of the batch, by name.

    Example:
        >>> found = merges(batch, torch.Generator())
        >>> found["sum of 2, old rank"].rank == batch.rank, "TIES of 3" in found
        (True, True)
    """
    found = {}
    for count in COUNTS:
        rows = _partners(batch.size, count, generator)
        draw = torch.rand(count, batch.size, generator=generator, dtype=torch.float64)
        weights = -draw.clamp(min=1e-12).log()  # exponential: uniform on the simplex
        even = torch.ones(count, batch.size)
        found[f"weighted mean of {count}"] = _added(batch, rows, weights / weights.sum(0))
        found[f"sum of {count}"] = summed = _added(batch, rows, even)
        found[f"sum of {count}, old rank"] = cut(summed, batch.rank)
        found[f"mean of factors of {count}"] = _factors(batch, rows)
        found[f"TIES of {count}"] = _ties(batch, rows)
    return found


def ties(updates: Tensor, density: float = DENSITY) -> Tensor:  # (k, ..., n, m) -> (..., n, m)
    """Trim each of k updates, elect a sign for each number, and take the mean of those that have it.

    Example:
        >>> ties(torch.tensor([[[3.0, 0.1]], [[1.0, -4.0]]]), density=0.5).tolist()
        [[3.0, -4.0]]
    """
    numbers = updates.shape[-2] * updates.shape[-1]
    kept = max(1, round(density * numbers))
    least = updates.abs().flatten(-2).topk(kept, -1).values[..., -1, None, None]
    trimmed = torch.where(updates.abs() >= least, updates, 0.0)
    elected = trimmed.sum(0).sign()
    same = (trimmed.sign() == elected) & (trimmed != 0)
    count = same.sum(0).clamp(min=1)
    return torch.where(same, trimmed, 0.0).sum(0) / count


def _partners(size: int, count: int, generator: torch.Generator) -> list[Tensor]:
    """Rows of the LoRAs of each merge: every LoRA itself, then those that follow it in a random circle."""
    order = torch.randperm(size, generator=generator)
    place = order.argsort()
    return [order[(place + step) % size] for step in range(count)]


def _added(batch: LoRABatch, rows: list[Tensor], weights: Tensor) -> LoRABatch:  # weights (k, b)
    """Weighted sums of updates, as concatenated factors."""
    groups = []
    for group in batch.groups:
        scaled = [
            group.u[:, row] * weight.to(group.u)[None, :, None, None]
            for row, weight in zip(rows, weights, strict=True)
        ]
        groups.append(GroupBatch(torch.cat(scaled, 2), torch.cat([group.v[:, r] for r in rows], 2)))
    ranks = torch.stack([batch.ranks[row] for row in rows]).sum(0)
    return replace(batch, groups=tuple(groups), ranks=ranks)


def _factors(batch: LoRABatch, rows: list[Tensor]) -> LoRABatch:
    """Means of the factors, each by itself, in the size of a mean of updates were all factors the same."""
    groups = [
        GroupBatch(*(torch.stack([side[:, row] for row in rows]).mean(0) for side in (g.u, g.v)))
        for g in batch.groups
    ]
    ranks = torch.stack([batch.ranks[row] for row in rows]).amax(0)
    return replace(batch, groups=tuple(groups), ranks=ranks)


def _ties(batch: LoRABatch, rows: list[Tensor]) -> LoRABatch:
    """TIES of updates, and its best update of the batch's rank."""
    groups = []
    for group in batch.groups:
        layers = [
            _ties_layer(u, v, rows, batch.rank) for u, v in zip(group.u, group.v, strict=True)
        ]
        groups.append(GroupBatch(*(torch.stack(side) for side in zip(*layers, strict=True))))
    there = torch.stack([batch.ranks[row] for row in rows]).amax(0) > 0
    return replace(batch, groups=tuple(groups), ranks=there.long() * batch.rank)


def _ties_layer(u: Tensor, v: Tensor, rows: list[Tensor], rank: int) -> tuple[Tensor, Tensor]:
    """Of one layer, (b, r, n) and (b, r, m); no more than some dense updates are there at once."""
    parts = []
    for start in range(0, len(u), CHUNK):
        some = [row[start : start + CHUNK] for row in rows]
        merged = ties(torch.stack([u[row].mT @ v[row] for row in some]))
        left, s, right = torch.linalg.svd(merged, full_matrices=False)
        most = min(rank, s.shape[-1])
        pair = (left[..., :most] * s[:, None, :most]).mT, right[:, :most]
        pad = (0, 0, 0, rank - most)
        parts.append(tuple(torch.nn.functional.pad(side, pad) for side in pair))
    x, y = zip(*parts, strict=True)
    return torch.cat(x), torch.cat(y)
