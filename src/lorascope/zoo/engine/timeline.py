"""Which job each lane of a group trains at each step.

A lane takes the next job as soon as its own has ended, so that short jobs do not wait for long
ones. The longest jobs start first, each in the lane that is free first: the lanes end together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Timeline", "timeline"]


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


def timeline(steps: Sequence[int], lanes: int) -> Timeline:
    """Spread jobs of so many steps over lanes.

    Example:
        >>> timeline([1, 3, 2], lanes=2).jobs.tolist()
        [[1, 2], [1, 2], [1, 0]]
    """
    ends = [0] * lanes
    starts: list[tuple[int, int, int]] = []
    for job in sorted(range(len(steps)), key=lambda i: (-steps[i], i)):
        lane = min(range(lanes), key=ends.__getitem__)
        starts.append((job, lane, ends[lane]))
        ends[lane] += steps[job]
    jobs = torch.full((max(ends), lanes), -1)
    local = torch.zeros(max(ends), lanes, dtype=torch.int64)
    for job, lane, start in starts:
        jobs[start : start + steps[job], lane] = job
        local[start : start + steps[job], lane] = torch.arange(steps[job])
    return Timeline(jobs, local)
