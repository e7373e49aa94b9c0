"""What each layer says by itself of what is known of the training LoRAs: one ridge a layer, as one map.

    g_l(x) = core_l . a_l + left_l . b_l + right_l . c_l + i_l        (a,) for each layer l

Layers contradict each other where a LoRA learned something in some of them alone: a function of the g_l sees
that, one of their sum does not. Neighbouring layers share a ridge where there are many, so the time of a fit is
bounded. What it is not: a model; `fusion` takes its second look at these numbers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lorascope.models.mixed_kernels import Kernels, Mixture, share
from lorascope.models.smoother import Smoother

__all__ = ["Block", "Hints", "answer_layers", "blocks_of", "learn_layers"]

Block = Mapping[str, slice]
"""Where the numbers of a block of layers stand among those of all, for each kind of numbers."""
MOST_BLOCKS = 16
MIXTURE: Mixture = {"core": 2.0, "left": 1.0, "right": 1.0}


class Hints(NamedTuple):
    """A map to what is said of LoRAs, and what it said of each training LoRA when its group was left out."""

    maps: dict[str, Tensor]  # (F, a) each
    intercepts: Tensor  # (a,), or (k, a) of k blocks
    left_out: Tensor  # (b, a), or (b, k a)


def blocks_of(widths: Mapping[str, Sequence[int]], most: int = MOST_BLOCKS) -> list[Block]:
    """Neighbouring layers in at most so many blocks, given how many numbers of each kind a layer has.

    Example:
        >>> blocks_of({"core": [4, 4, 9]}, most=2)
        [{'core': slice(0, 8, None)}, {'core': slice(8, 17, None)}]
    """
    layers = len(next(iter(widths.values())))
    count = min(most, layers)
    ends = [-(-layers * (i + 1) // count) for i in range(count)]
    starts = [0, *ends[:-1]]
    return [
        {name: slice(sum(w[:start]), sum(w[:end])) for name, w in widths.items()}
        for start, end in zip(starts, ends, strict=True)
    ]


def learn_layers(
    parts: Mapping[str, Tensor],  # (b, F) each
    blocks: Sequence[Block],
    known: Tensor,  # (b, a)
    groups: Tensor | None,  # (b,) int64
) -> Hints:
    """The ridges of all blocks, each strength chosen for each column by leaving out groups."""
    maps = {name: part.new_zeros(part.shape[1], known.shape[1]) for name, part in parts.items()}
    intercepts, left_out = [], []
    for block in blocks:
        kernels = Kernels({name: parts[name][:, at] for name, at in block.items()}, {}, {})
        smoother = Smoother(kernels.mixed(MIXTURE), groups)
        strengths, told = smoother.choose_each(known)
        duals, intercept = smoother.solve(known, strengths)
        found = kernels.weights(share(kernels, {"": MIXTURE}, duals.unsqueeze(0)))
        for name, at in block.items():
            maps[name][at] = found[name].to(maps[name].dtype)
        intercepts.append(intercept)
        left_out.append(told)
    return Hints(maps, torch.stack(intercepts), torch.cat(left_out, 1))


def answer_layers(
    parts: Mapping[str, Tensor],  # (b, F) each
    blocks: Sequence[Block],
    maps: Mapping[str, Tensor],  # (F, a) each
    intercepts: Tensor,  # (k, a)
) -> Tensor:  # (b, k a)
    """What the blocks say of LoRAs."""
    told = []
    for block, intercept in zip(
        blocks, intercepts.to(next(iter(parts.values())).dtype), strict=True
    ):
        said = intercept
        for name, at in block.items():
            said = torch.addmm(said, parts[name][:, at], maps[name][at])
        told.append(said)
    return torch.cat(told, 1)
