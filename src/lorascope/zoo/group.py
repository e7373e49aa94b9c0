"""Which jobs train together, and the data of a group step by step.

Jobs of the same batch size and length share a group, sorted by steps so that few rows are idle
while the longest job ends. A batch of 16 rows is two slots of 8 rows with the same adapter:
activations then have one shape whatever the batch size, and are compiled once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.zoo.draws import byte_bank, data_order, dropout_threshold, mask_offsets
from lorascope.zoo.jobs import FitJob

__all__ = ["Batch", "GroupData", "JobShape", "adapters_of_group", "arrange"]

ROWS = 8  # of a slot


def rows_of_slot(batch_size: int) -> int:
    """Rows of one slot: 8 where the batch size is a multiple, else the whole batch."""
    return ROWS if batch_size % ROWS == 0 else batch_size


def adapters_of_group(batch_size: int, slots: int) -> int:
    """How many adapters of this batch size fill `slots` slots."""
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
    """Cut jobs into groups of at most `slots` slots: lists of indices, a pure function of shapes.

    Example:
        >>> arrange([JobShape(8, 20, False, steps) for steps in (30, 10, 20)], slots=2)
        [[1, 2], [0]]
    """
    buckets: dict[tuple[int, int, bool], list[int]] = {}
    for i, shape in enumerate(shapes):
        key = (shape.batch_size, shape.length, shape.drops)
        buckets.setdefault(key, []).append(i)
    groups = []
    for key in sorted(buckets):
        members = sorted(buckets[key], key=lambda i: (shapes[i].steps, i))
        size = adapters_of_group(key[0], slots)
        groups += [members[i : i + size] for i in range(0, len(members), size)]
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
    """The data of every step of some jobs of one batch size and length.

    `idle` empty places at the end repeat the first job, so that short groups keep their shape.
    """

    def __init__(
        self, jobs: Sequence[FitJob], shapes: Mapping[str, tuple[int, int]], idle: int = 0
    ):
        self.jobs = [*jobs, *[jobs[0]] * idle]
        self.steps = torch.tensor([job.steps for job in self.jobs])
        self.longest = max(job.steps for job in jobs)
        # the last token predicts nothing, so it is never an input
        self.batch_size, self.length = jobs[0].batch_size, jobs[0].tokens.shape[1] - 1
        self.rows = rows_of_slot(self.batch_size)
        self.copies = self.batch_size // self.rows
        self.slots = len(self.jobs) * self.copies
        self._stack()
        self._draw_masks(shapes)

    def _stack(self) -> None:
        most = max(len(job.tokens) for job in self.jobs)
        width = max(answer_width(job.weights) for job in self.jobs)
        count = len(self.jobs)
        self.tokens = torch.zeros(count, most, self.length, dtype=torch.int64)
        self.places, self.labels = (torch.zeros(count, most, width).long() for _ in range(2))
        self.weights = torch.zeros(count, most, width)
        self.order = torch.full((count, self.longest, self.batch_size), -1)
        for g, job in enumerate(self.jobs):
            e = len(job.tokens)
            self.tokens[g, :e] = job.tokens[:, :-1]
            parts = answers(job.tokens, job.weights, width)
            self.places[g, :e], self.labels[g, :e], self.weights[g, :e] = parts
            order = data_order(job.seed, e, job.epochs, job.batch_size)
            self.order[g, : job.steps] = order

    def _draw_masks(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        self.thresholds, self.offsets = None, {}
        if not any(job.dropout > 0 for job in self.jobs):
            return
        tokens = self.batch_size * self.length
        windows = {name: tokens * m for name, (_, m) in shapes.items()}
        drawn = [mask_offsets(job.seed, job.steps, windows) for job in self.jobs]
        self.bank = byte_bank(max(windows.values()))
        self.windows = windows
        for name in shapes:
            offsets = torch.zeros(len(self.jobs), self.longest, dtype=torch.int64)
            for g, own in enumerate(drawn):
                offsets[g, : self.jobs[g].steps] = own[name]
            self.offsets[name] = offsets
        pairs = [dropout_threshold(job.dropout) for job in self.jobs]
        self.thresholds = torch.tensor([p[0] for p in pairs]).repeat_interleave(self.copies)
        scales = torch.tensor([p[1] for p in pairs], dtype=torch.float64)
        self.scales = scales.repeat_interleave(self.copies)

    def batch(self, step: int) -> Batch:
        """The rows of one step; an adapter that has finished sees its first example again."""
        order = self.order[:, step]
        index = order.clamp(min=0)
        adapters = torch.arange(len(self.jobs))[:, None]
        weights = self.weights[adapters, index].double() * (order >= 0)[..., None]
        total = weights.sum((1, 2), keepdim=True)
        weights = weights / torch.where(total > 0, total, 1)
        stored = (self.tokens, self.places, self.labels)
        parts = [*(part[adapters, index] for part in stored), weights]
        return Batch(*(part.reshape(self.slots, self.rows, -1) for part in parts))

    def noise(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """The dropout bytes of each adapted layer: (s, b, t, m) uint8."""
        for name, offsets in self.offsets.items():
            window = self.windows[name]
            bytes_ = self.bank.unfold(0, window, 1).index_select(0, offsets[:, step])
            yield name, bytes_.view(self.slots, self.rows, self.length, -1)
