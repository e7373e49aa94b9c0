"""The training of one group: every lane trains one adapter after another, all lanes at once.

One backward serves the group; AdamW runs on one (lanes, p) buffer with vectors of rates, decays and
clipping. An adapter that has diverged keeps its last finite numbers. What is learned is a `Lesson`:
words or pictures, the loop does not know.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,   g clipped to its norm
    x = x (1 - rate decay) - rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)

A group may have several lessons, each of which trains a part of every job's steps: the first ones in
float32 (`opening.py`). Between them all numbers of an adapter and its moments are put down.
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
        """Which job each lane trains at each step; of each job one span of its steps."""

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
    lessons: Sequence[Lesson],
    dtype: torch.dtype,
    device: torch.device = CPU,
) -> Fitted:
    """Train every job of a group, from its seed to its last step; answers in their order, on the CPU.

    What is random is drawn on the CPU, so that it is the same on every device. Losses are computed on
    `device`; no step waits for an answer of it.

    Args:
        lessons: of the same jobs, one after another; together they hold every step of each once.
    """
    state = State(lessons[0], layout.first(specs, lessons[0].seeds, dtype).to(device))
    for lesson in lessons:
        run = LanesRun(lesson, state)
        for step in range(len(lesson.timeline)):
            run.enter(step)
            loss = lesson.loss(step, run.rows)
            (gradient,) = torch.autograd.grad(loss.sum(), run.rows)
            run.update(step, loss.detach(), gradient)
    rows, finite = state.rows.cpu(), state.finite.cpu()
    return Fitted(tuple(specs), layout, rows, state.mean_losses(), lessons[0].steps, finite)


class State:
    """The jobs of a group while no lane trains them: numbers, moments, losses."""

    def __init__(self, lesson: Lesson, rows: Tensor):
        self.rows = rows  # (jobs, p), trained in place
        self.first, self.second = torch.zeros_like(rows), torch.zeros_like(rows)
        self.finite = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        self.losses = torch.zeros_like(lesson.rates, device=rows.device)
        self.steps, self.last = lesson.steps, lesson.last

    def mean_losses(self) -> Tensor:
        """Mean loss of each job over its last steps: (jobs,) float32."""
        losses = self.losses.cpu()
        at = torch.arange(losses.shape[1])
        late = (at < self.steps[:, None]) & (at >= (self.steps - self.last)[:, None])
        return (torch.where(late, losses, 0).sum(1) / self.last).float()


class LanesRun:
    """The adapters and the optimiser's state in the lanes."""

    def __init__(self, lesson: Lesson, state: State):
        self.state, device = state, state.rows.device
        self.turns = lesson.timeline.turns(device)
        self.rows = state.rows.new_zeros(lesson.timeline.jobs.shape[1], state.rows.shape[1])
        self.rows.requires_grad_()
        self.first, self.second = (torch.zeros_like(self.rows.detach()) for _ in range(2))
        self.rates, self.decays, self.clips = (
            part.to(device) for part in (lesson.rates, lesson.decays, lesson.clips)
        )

    @torch.no_grad()
    def enter(self, step: int) -> None:
        """Put the jobs that a step takes up into their lanes."""
        fresh = self.turns[step].fresh
        jobs = self.turns[step].jobs[fresh]
        self.rows[fresh] = self.state.rows[jobs]
        self.first[fresh] = self.state.first[jobs]
        self.second[fresh] = self.state.second[jobs]

    @torch.no_grad()
    def update(self, step: int, loss: Tensor, gradient: Tensor) -> None:
        """AdamW on every lane, with each job's own rate, decay and clipping; store what has ended."""
        turn = self.turns[step]
        jobs, local, lanes, state = turn.jobs, turn.local, turn.lanes, self.state
        norm = gradient.norm(dim=1)
        sound = torch.isfinite(norm) & torch.isfinite(loss)
        names = jobs[lanes]  # no job is in two lanes
        state.finite[names] = state.finite[names] & sound[lanes]
        state.losses[names, local[lanes]] = loss[lanes].double()
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
        self.rows.copy_(torch.where((turn.busy & state.finite[jobs])[:, None], changed, self.rows))
        ended = jobs[turn.ended]
        state.rows[ended] = self.rows[turn.ended]
        state.first[ended] = self.first[turn.ended]
        state.second[ended] = self.second[turn.ended]
