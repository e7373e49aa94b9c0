"""`PackedLesson`: a group of language jobs whose examples differ in length, packed into rows.

The adapters are those of `WordLesson`, which pads every example to the longest: here a row is a slot of its
own with its adapter's numbers, and a step has as many rows, as long, as it needs (`packing.py`). Dropout takes
the bytes that a token would have in the padded batch, so that PEFT alone is equal too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.dora import with_gains
from lorascope.zoo.engine.draws import data_order
from lorascope.zoo.engine.language.fit import WordLesson
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.group import Batch
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.language.network import (
    PADDING,
    Kernels,
    answer_losses,
    pairs_by_block,
    views,
    visible,
)
from lorascope.zoo.engine.language.packing import ROW, Packed, pack, real_lengths, spread
from lorascope.zoo.engine.language.ragged import Ragged
from lorascope.zoo.engine.layout import Layout

__all__ = ["PackedLesson", "PackedRows", "tokens_learned"]


class PackedRows(NamedTuple):
    """Where the tokens and the answers of a step stand: s rows of t tokens and q answers."""

    lane: Tensor  # (s,) the adapter
    job: Tensor  # (s,) what it trains
    place: Tensor  # (s, t) the token's row in the adapter's batch
    example: Tensor  # (s, t) the token's example among those of the job
    position: Tensor  # (s, t) where it stands in its example
    segment: Tensor  # (s, t) which example within the row, PADDING on padding
    asked: Tensor  # (s, q) the answer's example among those of the job
    answer: Tensor  # (s, q) which of that example's answers
    start: Tensor  # (s, q) where in the row that example begins
    seen: Ragged  # the tokens in rows (s, t)
    used: Ragged  # the answers in rows (s, q)

    def to(self, device: torch.device) -> "PackedRows":
        """The same on a device."""
        return PackedRows(**{name: part.to(device) for name, part in self._asdict().items()})


class PackedLesson(WordLesson):
    """What a group of language jobs is trained on, step by step in packed rows, and its loss."""

    def __init__(
        self,
        base: FrozenBase,
        specs: Sequence[AdapterSpec],
        layout: Layout,
        jobs: Sequence[FitJob],
        kernels: Kernels,
        lanes: int,
    ):
        super().__init__(base, specs, layout, jobs, kernels, lanes)
        self.lengths = [real_lengths(job.weights) for job in jobs]
        self.answers = [(job.weights > 0).sum(1) for job in jobs]
        self.order = self.data.order.cpu()

    @staticmethod
    def row(length: int) -> int:
        """Tokens of the longest row where the longest example has so many."""
        return max(ROW, length)

    def loss(self, step: int, rows: Tensor) -> Tensor:
        """The loss of the adapter in each lane, 0 where it is idle: (lanes, p) -> (lanes,)."""
        where = self.rows_of(step).to(self.base.device)
        batch = self.packed_batch(step, where)
        mask = visible(where.segment)
        token = where.place * self.data.length + where.position  # (s, t)
        lane = where.lane[:, None].expand_as(token)
        scales = self.scales if len(self.scales) == 1 else self.scales[self.data.at(step)[0]]
        scaled = with_gains(self.layout, rows * scales, self.base.weight_of)
        scaled = scaled.to(self.base.dtype)[where.lane]
        losses = answer_losses(
            self.base,
            self.kernels,
            batch.tokens,
            batch.labels[..., None],
            views(self.base, batch.seen, where.position, mask, batch.asked, batch.places),
            pairs_by_block(self.layout.unpack(scaled), len(self.base.blocks)),
            self.dropout(step, *(part[batch.seen.places.unbind()] for part in (lane, token))),
        )
        weighted = (losses[..., 0] * batch.weights.to(losses.dtype)).sum(1)
        return weighted.new_zeros(len(rows)).index_add(0, where.lane, weighted)

    def packed(self, step: int) -> Packed:
        """Which examples of a step share a row."""
        batches = [
            torch.where(chosen >= 0, self.lengths[job][chosen], 0).tolist()
            for job, chosen in self.chosen(step)
        ]
        return pack(batches)

    def chosen(self, step: int) -> list[tuple[int, Tensor]]:
        """The job of each lane and its examples at a step, (b,) with -1 for none; none of an idle lane."""
        jobs, local = (part[step].tolist() for part in (self.timeline.jobs, self.timeline.local))
        return [
            (job, self.order[job, at] if job >= 0 else self.order.new_zeros(0))
            for job, at in zip(jobs, local, strict=True)
        ]

    def rows_of(self, step: int) -> PackedRows:
        """Where all tokens and answers of a step stand, on the CPU."""
        packed, chosen = self.packed(step), self.chosen(step)
        job = torch.tensor([chosen[lane][0] for lane in packed.lane.tolist()])
        members = [chosen[lane][1][m] for lane, m in zip(packed.lane, packed.members, strict=True)]
        examples = torch.stack(members).clamp(min=0)  # (s, g)
        counts = torch.stack(
            [self.answers[j][some] for j, some in zip(job.tolist(), examples, strict=True)]
        )
        tokens, answers = spread(packed.lengths), spread(counts * (packed.lengths > 0))
        starts = packed.lengths.cumsum(1) - packed.lengths
        return PackedRows(
            packed.lane,
            job,
            packed.members.gather(1, tokens.owner),
            examples.gather(1, tokens.owner),
            torch.where(tokens.used, tokens.within, 0),
            torch.where(tokens.used, tokens.owner, PADDING),
            examples.gather(1, answers.owner),
            torch.where(answers.used, answers.within, 0),
            starts.gather(1, answers.owner),
            *(Ragged.of(each.used, int(each.used.sum())) for each in (tokens, answers)),
        )

    def packed_batch(self, step: int, where: PackedRows) -> Batch:
        """The rows of one step: each a slot."""
        data, job = self.data, where.job[:, None]
        jobs, local = data.at(step)
        order = data.order[jobs, local]
        weights = data.weights[jobs[:, None], order.clamp(min=0)] * (order >= 0)[..., None]
        used = where.used.token >= 0
        share = data.weights[job, where.asked, where.answer] * used
        parts = (
            data.tokens[job, where.example, where.position],
            (data.places[job, where.asked, where.answer] + where.start) * used,
            data.labels[job, where.asked, where.answer],
            share / weights.sum((1, 2))[where.lane][:, None],
        )
        return Batch(where.seen, where.used, *parts)


def tokens_learned(job: FitJob) -> tuple[int, int]:
    """Tokens of a job's first epoch without padding, and with it, as the job is trained alone."""
    lengths, whole = real_lengths(job.weights), 0
    for chosen in data_order(job.seed, len(lengths), 1, job.batch_size):
        packed = pack([torch.where(chosen >= 0, lengths[chosen], 0).tolist()])
        whole += len(packed.lane) * packed.width
    return int(lengths.sum()), whole
