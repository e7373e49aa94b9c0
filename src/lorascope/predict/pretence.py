"""LoRAs that look trained and are not: merges, mixtures of layers and random ones, made of real ones.

    blend(k)     mean of k LoRAs                                     rank k r
    mix          every layer with the directions of another LoRA     own singular values
    thin(r)      what is left of each update in r random directions of the inputs that it reads
    randomise    every layer with random directions                  own singular values

What detectors of outliers learn from (`blend`) and are examined with (all). Own singular values: norm and
spectrum of each layer stay what they were, so only directions can tell. DoRA's magnitudes stay with the LoRA
that gives the norms, and those of a mean are a mean.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.core.magnitudes import Magnitudes
from lorascope.symmetry.canonical import canonical_stacked

__all__ = ["blend", "cut", "mix", "randomise", "thin"]


def blend(batch: LoRABatch, count: int, generator: torch.Generator) -> LoRABatch:
    """Means of `count` LoRAs each, as many as there are LoRAs.

    Example:
        >>> blend(batch, 2, torch.Generator()).rank == 2 * batch.rank
        True
    """
    rows = [_shuffle(batch.size, generator, batch) for _ in range(count)]
    groups = [
        GroupBatch(
            torch.cat([group.u[:, row] / count for row in rows], 2),
            torch.cat([group.v[:, row] for row in rows], 2),
        )
        for group in batch.groups
    ]
    ranks = torch.stack([batch.ranks[row] for row in rows]).sum(0)
    magnitudes = None
    if batch.magnitudes is not None:
        parts = [batch.magnitudes.select(row) for row in rows]
        mean = [torch.stack(x).mean(0) for x in zip(*(part.groups for part in parts), strict=True)]
        present = torch.stack([part.present for part in parts]).all(0)
        magnitudes = Magnitudes(tuple(mean), present)
    return LoRABatch(batch.signature, tuple(groups), ranks, magnitudes)


def cut(batch: LoRABatch, rank: int) -> LoRABatch:
    """The best updates of a lower rank.

    Example:
        >>> cut(batch, 1).rank
        1
    """
    groups = []
    for group in batch.groups:
        form = canonical_stacked(group.u, group.v)
        s = form.s[..., :rank, None]
        groups.append(GroupBatch(form.x[..., :rank, :] * s, form.y[..., :rank, :]))
    return replace(batch, groups=tuple(groups), ranks=batch.ranks.clamp(max=rank))


def mix(batch: LoRABatch, generator: torch.Generator) -> LoRABatch:
    """Each layer with the singular vectors of another LoRA's and the singular values of its own."""
    groups = []
    for group in batch.groups:
        form = canonical_stacked(group.u, group.v)
        rows = [_shuffle(batch.size, generator, batch) for _ in range(len(group.u))]
        x, y = (
            torch.stack([layer[row] for layer, row in zip(side, rows, strict=True)])
            for side in (form.x, form.y)
        )
        groups.append(GroupBatch(x * form.s.unsqueeze(-1), y))
    return batch.with_groups(groups)


def randomise(batch: LoRABatch, generator: torch.Generator) -> LoRABatch:
    """Each layer with random singular vectors and the singular values of its own."""
    groups = []
    for group in batch.groups:
        form = canonical_stacked(group.u, group.v)
        x, y = (_orthonormal(side, generator) for side in (form.x, form.y))
        groups.append(GroupBatch(x * form.s.unsqueeze(-1), y))
    return batch.with_groups(groups)


def thin(batch: LoRABatch, rank: int, generator: torch.Generator) -> LoRABatch:
    """Updates in a random part of the inputs that each reads: what training at a lower rank is like.

    A column of B belongs to a random row of A, and with fewer rows there are fewer such columns. (The best
    update of a lower rank, `cut`, has the strongest directions instead.)

    Example:
        >>> thin(batch, 1, torch.Generator()).rank
        1
    """
    groups = []
    for group in batch.groups:
        form = canonical_stacked(group.u, group.v)
        turn = torch.randn(*form.s.shape, rank, generator=generator).to(form.s)
        rows = torch.linalg.qr(turn * (form.s > 0).unsqueeze(-1)).Q.mT  # (l, b, rank, r)
        groups.append(GroupBatch(rows @ (form.x * form.s.unsqueeze(-1)), rows @ form.y))
    return replace(batch, groups=tuple(groups), ranks=batch.ranks.clamp(max=rank))


def _shuffle(count: int, generator: torch.Generator, batch: LoRABatch) -> Tensor:
    return torch.randperm(count, generator=generator).to(batch.device)


def _orthonormal(like: Tensor, generator: torch.Generator) -> Tensor:
    draw = torch.randn(like.shape, generator=generator).to(like)
    rows: Tensor = torch.linalg.qr(draw.mT).Q.mT
    # above the width there are no more directions, and singular values are zero
    missing = like.shape[-2] - rows.shape[-2]
    return torch.nn.functional.pad(rows, (0, 0, 0, missing))
