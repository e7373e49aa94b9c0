"""Which jobs train together, and the data of a group step by step.

Jobs of the same batch size and length share a group; each lane of it trains several, one after
another (`timeline.py`). A batch of 16 rows is two slots of 8 rows with the same adapter:
activations then have one shape whatever the batch size, and are compiled once.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.zoo.engine.draws import byte_bank, data_order, dropout_threshold, mask_offsets
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.layout import LayerShape
from lorascope.zoo.engine.timeline import timeline

__all__ = ["Batch", "GroupData", "JobShape", "arrange", "lanes_of_group"]

ROWS = 8  # of a slot
CPU = torch.device("cpu")
PER_LANE = 4  # jobs one after another: more balance better, and tell and save less often


def rows_of_slot(batch_size: int) -> int:
    """Rows of one slot: 8 where the batch size is a multiple, else the whole batch."""
    return ROWS if batch_size % ROWS == 0 else batch_size


def lanes_of_group(batch_size: int, slots: int) -> int:
    """How many adapters of this batch size fill `slots` slots at once."""
    return max(1, slots * rows_of_slot(batch_size) // batch_size)


@dataclass(frozen=True, order=True)
class JobShape:
    """What decides with which others a job trains."""

    batch_size: int
    length: int
    drops: bool
    steps: int

    @classmethod
    def of(cls, job: FitJob) -> "JobShape":
        """The shape of a job."""
        return cls(job.batch_size, job.tokens.shape[1], job.dropout > 0, job.steps)


def arrange(shapes: Sequence[JobShape], slots: int) -> list[list[int]]:
    """Cut jobs into groups that fill `slots` slots: lists of indices, a pure function of shapes.

    Example:
        >>> arrange([JobShape(8, 20, False, steps) for steps in (30, 10, 20, 40, 50)], slots=1)
        [[1, 0, 4], [2, 3]]
    """
    buckets: dict[tuple[int, int, bool], list[int]] = {}
    for i, shape in enumerate(shapes):
        key = (shape.batch_size, shape.length, shape.drops)
        buckets.setdefault(key, []).append(i)
    groups: list[list[int]] = []
    for key in sorted(buckets):
        members = sorted(buckets[key], key=lambda i: (shapes[i].steps, i))
        count = math.ceil(len(members) / (PER_LANE * lanes_of_group(key[0], slots)))
        groups += [members[i::count] for i in range(count)]  # dealt: groups of equal work
    return groups


@dataclass(frozen=True, eq=False)
class Batch:
    """One step of a group: s slots of b rows, q answers (tokens with a weight) in each row."""

    tokens: Tensor  # (s, b, t)
    places: Tensor  # (s, b, q): where the prediction is made
    labels: Tensor  # (s, b, q): the token to predict
    weights: Tensor  # (s, b, q) float64: of each answer; they sum to 1 over each adapter's batch


def answer_width(weights: Tensor) -> int:
    """Answers of the example that has most, rounded up (few distinct shapes to compile)."""
    most = int((weights > 0).sum(1).max())
    rounded = most if most <= 2 else math.ceil(most / 2) * 2
    return min(rounded, weights.shape[1] - 1)


def answers(tokens: Tensor, weights: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places, labels and weights of the weighted tokens.

    tokens, weights: (e, t) -> three tensors (e, width); unused answers have weight 0.
    """
    order = (weights > 0).to(torch.int8).sort(dim=1, descending=True, stable=True)
    index = order.indices[:, :width].clamp(min=1)
    used = order.values[:, :width] > 0
    chosen = torch.where(used, weights.gather(1, index), 0)
    return index - 1, tokens.gather(1, index), chosen


class GroupData:
    """The data of every step of some jobs of one batch size and length, in lanes."""

    def __init__(
        self,
        jobs: Sequence[FitJob],
        shapes: Mapping[str, LayerShape],
        lanes: int,
        device: torch.device = CPU,
    ):
        self.jobs = jobs
        self.steps = torch.tensor([job.steps for job in jobs])
        self.timeline = timeline(self.steps.tolist(), lanes)
        # the last token predicts nothing, so it is never an input
        self.batch_size, self.length = jobs[0].batch_size, jobs[0].tokens.shape[1] - 1
        self.rows = rows_of_slot(self.batch_size)
        self.copies = self.batch_size // self.rows
        self.slots = lanes * self.copies
        self.bank: Tensor
        self.offsets: dict[str, Tensor]
        self._stack()
        self._draw_masks(shapes)
        self._move(device)

    def _move(self, device: torch.device) -> None:
        """All data of the group to the device, once; what is random was drawn on the CPU."""
        self.turns = self.timeline.turns(device)
        for name in ("tokens", "places", "labels", "weights", "order", "thresholds", "scales"):
            setattr(self, name, getattr(self, name).to(device))
        if self.drops:
            self.bank = self.bank.to(device)
            self.offsets = {name: each.to(device) for name, each in self.offsets.items()}

    def _stack(self) -> None:
        most, count = max(len(job.tokens) for job in self.jobs), len(self.jobs)
        width = max(answer_width(job.weights) for job in self.jobs)
        self.tokens = torch.zeros(count, most, self.length, dtype=torch.int64)
        self.places, self.labels = (torch.zeros(count, most, width).long() for _ in range(2))
        self.weights = torch.zeros(count, most, width, dtype=torch.float64)
        self.order = torch.full((count, int(self.steps.max()), self.batch_size), -1)
        for j, job in enumerate(self.jobs):
            e = len(job.tokens)
            self.tokens[j, :e] = job.tokens[:, :-1]
            parts = answers(job.tokens, job.weights, width)
            self.places[j, :e], self.labels[j, :e], self.weights[j, :e] = parts
            order = data_order(job.seed, e, job.epochs, job.batch_size)
            self.order[j, : job.steps] = order

    def _draw_masks(self, shapes: Mapping[str, LayerShape]) -> None:
        pairs = [dropout_threshold(job.dropout) for job in self.jobs]
        self.thresholds = torch.tensor([p[0] for p in pairs], dtype=torch.uint8)
        self.scales = torch.tensor([p[1] for p in pairs], dtype=torch.float64)
        self.drops = any(job.dropout > 0 for job in self.jobs)
        if not self.drops:
            return
        tokens = self.batch_size * self.length
        self.windows = {name: tokens * shape.m for name, shape in shapes.items()}
        self.bank = byte_bank(max(self.windows.values()))
        longest = int(self.steps.max())
        self.offsets = {
            name: torch.zeros(len(self.jobs), longest, dtype=torch.int64) for name in shapes
        }
        for j, job in enumerate(self.jobs):
            for name, offsets in mask_offsets(job.seed, job.steps, self.windows).items():
                self.offsets[name][j, : job.steps] = offsets

    def part(self, spans: Sequence[range]) -> "GroupData":
        """The same data for some steps of each job alone."""
        made = copy.copy(self)
        made.timeline = timeline(spans, self.timeline.jobs.shape[1])
        made.turns = made.timeline.turns(self.order.device)
        return made

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Job and its own step in each lane, as `Timeline.at` has them."""
        return self.turns[step].jobs, self.turns[step].local

    def batch(self, step: int) -> Batch:
        """The rows of one step; those of an idle lane have no weight."""
        jobs, local = self.at(step)
        order = self.order[jobs, local]
        index, jobs = order.clamp(min=0), jobs[:, None]
        real = (order >= 0) & self.turns[step].busy[:, None]
        weights = self.weights[jobs, index] * real[..., None]
        total = weights.sum((1, 2), keepdim=True)
        weights = weights / torch.where(total > 0, total, 1)
        stored = (self.tokens, self.places, self.labels)
        parts = [*(part[jobs, index] for part in stored), weights]
        return Batch(*(part.reshape(self.slots, self.rows, -1) for part in parts))

    def noise(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """The dropout bytes of each adapted layer: (s, b, t, m) uint8."""
        for name, offsets in self.offsets.items():
            views = self.bank.unfold(0, self.windows[name], 1)
            chosen = views.index_select(0, offsets[self.at(step)])
            yield name, chosen.view(self.slots, self.rows, self.length, -1)
