"""The training of one group: every lane trains one adapter after another, all lanes at once.

One backward serves the group; AdamW runs on one (lanes, p) buffer with vectors of rates, decays and
clipping. An adapter that has diverged keeps its last finite numbers. What is learned is a `Lesson`:
words or pictures, the loop does not know.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,   g clipped to its norm
    x = x (1 - rate decay) - rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted, Layout
from lorascope.zoo.engine.timeline import Timeline

__all__ = ["Lesson", "fit_lanes", "master_dtype"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CPU = torch.device("cpu")


class Lesson(Protocol):
    """What a group of jobs is trained on; its tensors lie on the CPU, whatever device trains."""

    @property
    def timeline(self) -> Timeline:
        """Which job each lane trains at each step."""

    @property
    def seeds(self) -> list[int]:
        """Of each job: what A starts from."""

    @property
    def steps(self) -> Tensor:
        """Optimiser steps of each job: (jobs,) int64."""

    @property
    def rates(self) -> Tensor:
        """The learning rate of each job at each of its steps: (jobs, steps) float64."""

    @property
    def decays(self) -> Tensor:
        """The weight decay of each job: (jobs,) float64."""

    @property
    def clips(self) -> Tensor:
        """What the gradient's norm is clipped to: (jobs,) float64."""

    @property
    def last(self) -> Tensor:
        """How many of its last steps the reported loss of a job averages: (jobs,) int64."""

    def loss(self, step: int, rows: Tensor) -> Tensor:
        """The loss of the adapter in each lane at a step. rows: (lanes, p) -> (lanes,)."""


def master_dtype(activations: torch.dtype) -> torch.dtype:
    """Of adapters and optimiser: float32, or float64 for activations of float64."""
    return torch.float64 if activations == torch.float64 else torch.float32


def fit_lanes(
    specs: Sequence[AdapterSpec],
    layout: Layout,
    lesson: Lesson,
    dtype: torch.dtype,
    device: torch.device = CPU,
) -> Fitted:
    """Train every job of a lesson, from its seed to its last step; answers in their order, on the CPU.

    What is random is drawn on the CPU, so that it is the same on every device. Losses are computed on
    `device`; no step waits for an answer of it.
    """
    run = LanesRun(lesson, layout.first(specs, lesson.seeds, dtype).to(device))
    for step in range(len(lesson.timeline)):
        run.enter(step)
        loss = lesson.loss(step, run.rows)
        (gradient,) = torch.autograd.grad(loss.sum(), run.rows)
        run.update(step, loss.detach(), gradient)
    rows, finite = run.stored.cpu(), run.finite.cpu()
    return Fitted(tuple(specs), layout, rows, run.mean_losses(), lesson.steps, finite)


class LanesRun:
    """The adapters and the optimiser's state in the lanes; `stored` (jobs, p) is trained in place."""

    def __init__(self, lesson: Lesson, stored: Tensor):
        device = stored.device
        self.lesson, self.stored = lesson, stored
        self.turns = lesson.timeline.turns(device)
        self.rows = stored.new_zeros(lesson.timeline.jobs.shape[1], stored.shape[1])
        self.rows.requires_grad_()
        self.first, self.second = (torch.zeros_like(self.rows.detach()) for _ in range(2))
        self.rates, self.decays, self.clips = (
            part.to(device) for part in (lesson.rates, lesson.decays, lesson.clips)
        )
        self.finite = torch.ones(len(stored), dtype=torch.bool, device=device)
        self.losses = torch.zeros_like(self.rates)

    @torch.no_grad()
    def enter(self, step: int) -> None:
        """Put the jobs that begin at a step into their lanes."""
        turn = self.turns[step]
        fresh = turn.fresh
        self.rows[fresh] = self.stored[turn.jobs[fresh]]
        self.first[fresh] = 0
        self.second[fresh] = 0

    @torch.no_grad()
    def update(self, step: int, loss: Tensor, gradient: Tensor) -> None:
        """AdamW on every lane, with each job's own rate, decay and clipping; store what has ended."""
        turn = self.turns[step]
        jobs, local, lanes = turn.jobs, turn.local, turn.lanes
        norm = gradient.norm(dim=1)
        sound = torch.isfinite(norm) & torch.isfinite(loss)
        names = jobs[lanes]  # no job is in two lanes
        self.finite[names] = self.finite[names] & sound[lanes]
        self.losses[names, local[lanes]] = loss[lanes].double()
        clip = (self.clips[jobs] / (norm.double() + 1e-6)).clamp(max=1)
        gradient = gradient * clip.to(gradient.dtype)[:, None]
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        rate, count = self.rates[jobs, local], (local + 1).double()
        step_size, spread, keep = (
            column.to(gradient.dtype)[:, None]
            for column in (
                rate / (1 - BETAS[0] ** count),
                (1 - BETAS[1] ** count).sqrt(),
                1 - rate * self.decays[jobs],
            )
        )
        size = self.second.sqrt().div_(spread).add_(EPSILON)
        changed = self.rows * keep - step_size * self.first / size
        self.rows.copy_(torch.where((turn.busy & self.finite[jobs])[:, None], changed, self.rows))
        self.stored[jobs[turn.ended]] = self.rows[turn.ended]

    def mean_losses(self) -> Tensor:
        """Mean loss of each job over its last steps: (jobs,) float32."""
        steps, last = self.lesson.steps, self.lesson.last
        losses = self.losses.cpu()
        at = torch.arange(losses.shape[1])
        late = (at < steps[:, None]) & (at >= (steps - last)[:, None])
        return (torch.where(late, losses, 0).sum(1) / last).float()
