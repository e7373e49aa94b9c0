"""`GroupData`: the data of language jobs that train together, step by step.

Which jobs these are, `grouping.py` decides.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.zoo.engine.draws import byte_bank, data_order, dropout_threshold, mask_offsets
from lorascope.zoo.engine.grouping import rows_of_slot
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.language.packing import real_lengths
from lorascope.zoo.engine.language.ragged import Ragged
from lorascope.zoo.engine.layout import LayerShape
from lorascope.zoo.engine.timeline import timeline

__all__ = ["Batch", "GroupData", "answer_width", "answers"]

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Batch:
    """One step of a group: n rows, as many of each slot, q answers (tokens with a weight) in each."""

    seen: Ragged  # the tokens in rows (n, t) that an answer depends on
    asked: Ragged  # the answers in rows (n, q)
    tokens: Tensor  # (n, t)
    places: Tensor  # (n, q): where the prediction is made
    labels: Tensor  # (n, q): the token to predict
    weights: Tensor  # (n, q) float64: of each answer; they sum to 1 over each adapter's batch


def answer_width(weights: Tensor) -> int:
    """Answers of the example that has most."""
    return min(int((weights > 0).sum(1).max()), weights.shape[1] - 1)


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
        self.copies = self.batch_size // rows_of_slot(self.batch_size)  # slots of a lane
        self.bank: Tensor
        self.offsets: dict[str, Tensor]
        self._stack()
        self._count()
        self._draw_masks(shapes)
        self._move(device)

    def _move(self, device: torch.device) -> None:
        """All data of the group to the device, once; what is random was drawn on the CPU."""
        self.turns = self.timeline.turns(device)
        stored = ("tokens", "lengths", "places", "labels", "weights", "order")
        for name in (*stored, "thresholds", "scales"):
            setattr(self, name, getattr(self, name).to(device))
        if self.drops:
            self.bank = self.bank.to(device)
            self.offsets = {name: each.to(device) for name, each in self.offsets.items()}

    def _stack(self) -> None:
        most, count = max(len(job.tokens) for job in self.jobs), len(self.jobs)
        width = max(answer_width(job.weights) for job in self.jobs)
        self.tokens = torch.zeros(count, most, self.length, dtype=torch.int64)
        self.lengths = torch.zeros(count, most, dtype=torch.int64)
        self.places, self.labels = (torch.zeros(count, most, width).long() for _ in range(2))
        self.weights = torch.zeros(count, most, width, dtype=torch.float64)
        self.order = torch.full((count, int(self.steps.max()), self.batch_size), -1)
        for j, job in enumerate(self.jobs):
            e = len(job.tokens)
            self.tokens[j, :e] = job.tokens[:, :-1]
            self.lengths[j, :e] = real_lengths(job.weights)
            parts = answers(job.tokens, job.weights, width)
            self.places[j, :e], self.labels[j, :e], self.weights[j, :e] = parts
            order = data_order(job.seed, e, job.epochs, job.batch_size)
            self.order[j, : job.steps] = order

    def _count(self) -> None:
        """Tokens and answers of each job at each of its steps: (jobs, steps, 2), on the CPU."""
        sizes = torch.stack((self.lengths, (self.weights > 0).sum(2)), 2)  # (jobs, e, 2)
        job = torch.arange(len(self.jobs))[:, None, None]
        chosen = torch.where(self.order[..., None] >= 0, sizes[job, self.order.clamp(min=0)], 0)
        self.counts = chosen.sum(2)

    def _draw_masks(self, shapes: Mapping[str, LayerShape]) -> None:
        pairs = [dropout_threshold(job.dropout) for job in self.jobs]
        self.thresholds = torch.tensor([p[0] for p in pairs], dtype=torch.uint8)
        self.scales = torch.tensor([p[1] for p in pairs], dtype=torch.float64)
        self.drops = any(job.dropout > 0 for job in self.jobs)
        if not self.drops:
            return
        tokens = self.batch_size * self.length
        self.widths = {name: shape.m for name, shape in shapes.items()}
        windows = {name: tokens * m for name, m in self.widths.items()}
        self.bank = byte_bank(max(windows.values()))
        longest = int(self.steps.max())
        self.offsets = {
            name: torch.zeros(len(self.jobs), longest, dtype=torch.int64) for name in shapes
        }
        for j, job in enumerate(self.jobs):
            for name, offsets in mask_offsets(job.seed, job.steps, windows).items():
                self.offsets[name][j, : job.steps] = offsets

    def part(self, spans: Sequence[range]) -> "GroupData":
        """The same data for some steps of each job alone."""
        made = copy.copy(self)
        made.timeline = timeline(spans, self.timeline.jobs.shape[1])
        made.turns = made.timeline.turns(self.order.device)
        return made

    def count(self, step: int) -> tuple[int, int]:
        """Tokens and answers of all busy lanes at a step."""
        jobs, local = self.timeline.jobs[step], self.timeline.local[step]
        busy = jobs >= 0
        tokens, asked = self.counts[jobs[busy], local[busy]].sum(0).tolist()
        return tokens, asked

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Job and its own step in each lane, as `Timeline.at` has them."""
        return self.turns[step].jobs, self.turns[step].local

    def batch(self, step: int) -> Batch:
        """The rows of one step; an idle lane and the rest of a short batch hold no token and no answer."""
        jobs, local = self.at(step)
        order = self.order[jobs, local]
        index, jobs = order.clamp(min=0), jobs[:, None]
        real = (order >= 0) & self.turns[step].busy[:, None]
        weights = self.weights[jobs, index] * real[..., None]
        total = weights.sum((1, 2), keepdim=True)
        weights = weights / torch.where(total > 0, total, 1)
        lengths = self.lengths[jobs, index] * real
        seen = torch.arange(self.length, device=lengths.device) < lengths[..., None]
        stored = (self.tokens, self.places, self.labels)
        parts = [seen, weights > 0, *(part[jobs, index] for part in stored), weights]
        seen, asked, *rest = (part.flatten(0, 1) for part in parts)
        tokens, answers = self.count(step)
        return Batch(Ragged.of(seen, tokens), Ragged.of(asked, answers), *rest)

    def standing(self, seen: Ragged) -> tuple[Tensor, Tensor]:
        """The lane of each token, and which of its lane's padded batch it is: two (k,)."""
        row, column = seen.places
        return row // self.batch_size, row % self.batch_size * self.length + column

    def noise(self, step: int, lane: Tensor, token: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The dropout bytes of each adapted layer: (k, m) uint8.

        lane: (k,), token: (k,) which of its lane's padded batch (batch_size, length).
        """
        for name, offsets in self.offsets.items():
            m = self.widths[name]
            first = offsets[self.at(step)][lane] + token * m
            yield name, self.bank.unfold(0, m, 1).index_select(0, first)
