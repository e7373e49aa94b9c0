"""Which job each lane of a group trains at each step.

A lane takes the next job as soon as its own has ended, so that short jobs do not wait for long
ones. The longest jobs start first, each in the lane that is free first: the lanes end together. A
plan may hold a part of each job's steps, so that the first can be computed otherwise than the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.errors import TrainingError

__all__ = ["Timeline", "Turn", "timeline"]


@dataclass(frozen=True, eq=False)
class Turn:
    """What happens at one step, as indices on the device that trains; `names` stays on the CPU.

    Everything is known before the first step, so that no step waits for the device to say.
    """

    jobs: Tensor  # (lanes,) the job of each lane, 0 where it is idle
    local: Tensor  # (lanes,) the step of that job
    busy: Tensor  # (lanes,) bool
    lanes: Tensor  # (k,) the busy lanes
    fresh: Tensor  # (f,) the lanes that take up a job (or are idle)
    ended: Tensor  # (e,) the lanes that put their job down after this step
    names: tuple[int, ...]  # the jobs of the busy lanes


@dataclass(frozen=True, eq=False)
class Timeline:
    """The plan of a group."""

    jobs: Tensor  # (steps, lanes) int64: the job of each lane, -1 where it has none left
    local: Tensor  # (steps, lanes) int64: the step of that job, counted from 0

    def __len__(self) -> int:
        return int(self.jobs.shape[0])

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Job and its own step in each lane; an idle lane repeats job 0. Two (lanes,) tensors."""
        return self.jobs[step].clamp(min=0), self.local[step]

    def turns(self, device: torch.device) -> list[Turn]:
        """Every step on a device."""
        busy, nothing = self.jobs >= 0, self.jobs.new_full((1, self.jobs.shape[1]), -1)
        before = torch.cat((nothing, self.jobs[:-1]))
        after = torch.cat((self.jobs[1:], nothing))
        chosen = (busy, ~busy | (before != self.jobs), busy & (after != self.jobs))
        lanes, fresh, ended = (_indices(mask, device) for mask in chosen)
        whole = zip(
            *(each.to(device) for each in (self.jobs.clamp(min=0), self.local, busy)), strict=True
        )
        names = (tuple(j for j in step if j >= 0) for step in self.jobs.tolist())
        return [
            Turn(*wide, *some)
            for wide, *some in zip(whole, lanes, fresh, ended, names, strict=True)
        ]


def _indices(mask: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Which lanes are set at each step (steps, lanes): one copy to the device for all steps."""
    return torch.split(mask.nonzero()[:, 1].to(device), mask.sum(1).tolist())


def timeline(steps: Sequence[int | range], lanes: int) -> Timeline:
    """Spread jobs over lanes. steps: of each job how many, or which of them (none: it is left out).

    Raises:
        TrainingError: no job has a step.

    Example:
        >>> timeline([1, 3, 2], lanes=2).jobs.tolist()
        [[1, 2], [1, 2], [1, 0]]
        >>> timeline([range(1, 1), range(1, 3), range(1, 2)], lanes=2).local.tolist()
        [[1, 1], [2, 0]]
    """
    spans = [range(each) if isinstance(each, int) else each for each in steps]
    ends = [0] * lanes
    places: list[tuple[int, int, int]] = []
    for job in sorted((j for j, span in enumerate(spans) if span), key=lambda j: -len(spans[j])):
        lane = min(range(lanes), key=ends.__getitem__)
        places.append((job, lane, ends[lane]))
        ends[lane] += len(spans[job])
    if not places:
        raise TrainingError(
            f"planning a group of {len(spans)} adapters: found no step of any, expected one at least. "
            "Try steps > 0"
        )
    jobs = torch.full((max(ends), lanes), -1)
    local = torch.zeros(max(ends), lanes, dtype=torch.int64)
    for job, lane, first in places:
        rows = slice(first, first + len(spans[job]))
        jobs[rows, lane] = job
        local[rows, lane] = torch.tensor(spans[job])
    return Timeline(jobs, local)
