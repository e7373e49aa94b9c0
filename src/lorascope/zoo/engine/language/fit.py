"""Finetune many adapters at once on one frozen base, each as if it were alone.

One forward and one backward serve a whole group (`lanes.py` has the loop). An adapter that has
ended makes room for the next one. An adapter depends on its own job alone.
"""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec, specs_of
from lorascope.zoo.engine.dora import with_gains
from lorascope.zoo.engine.fitted import Fitted, join
from lorascope.zoo.engine.grouping import JobShape, arrange, lanes_of_group
from lorascope.zoo.engine.lanes import fit_lanes, master_dtype
from lorascope.zoo.engine.language.causal_lm import Dropout
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.group import GroupData
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.language.kernels import frozen, kernels_for
from lorascope.zoo.engine.language.network import (
    Kernels,
    answer_losses,
    causal_views,
    noise_by_block,
    pairs_by_block,
)
from lorascope.zoo.engine.layout import Layout
from lorascope.zoo.engine.opening import lessons_of

__all__ = ["SLOTS", "WordLesson", "fit_adapters", "layout_of", "shape_of"]

SLOTS = 32


def shape_of(job: FitJob) -> JobShape:
    """What decides with which others a job trains."""
    return JobShape(job.batch_size, job.tokens.shape[1], job.dropout > 0, job.steps)


def layout_of(base: FrozenBase, specs: Sequence[AdapterSpec]) -> Layout:
    """Where the numbers of adapters of these specs lie on this base.

    Raises:
        TrainingError: the base has no module that the targets name, or the specs do not go together.
    """
    targets = specs[0].targets
    shapes = base.targeted(targets)
    if not shapes:
        known = sorted({path.rsplit(".", 1)[-1] for path in base.linear_shapes})
        raise TrainingError(
            f"laying out adapters: no module of the base ends in {list(targets)}. Try {known}"
        )
    norms = {name: base.weight_of(name).double().norm(dim=1) for name in shapes}
    return Layout.of(shapes, specs, norms)


def fit_adapters(
    base: nn.Module | FrozenBase,
    specs: AdapterSpec | Sequence[AdapterSpec],
    jobs: Sequence[FitJob],
    *,
    dtype: torch.dtype | None = None,
    compile: bool | None = None,
    slots: int = SLOTS,
    lesson: type["WordLesson"] | None = None,
) -> Fitted:
    """Finetune one adapter per job; the answer is in the order of the jobs, on the CPU.

    Args:
        base: the frozen model (float64 or float32 weights), or its `FrozenBase`; what it lies on
            computes.
        specs: of all adapters, or of each: the same targets, any ranks and alphas.
        dtype: of the activations (that of a `FrozenBase`, or float32); adapters and optimiser are
            float32, or float64 for float64.
        compile: use the kernels in C where they compute this. None keeps what a `FrozenBase` says.
        slots: how many batches of at most 8 rows train at once.
        lesson: how examples become rows: by default each padded to the longest.

    Raises:
        DataError: there are more or fewer specs than jobs.
        TrainingError: the base has no module that the targets name, or the specs do not go together.
    """
    base, specs = frozen(base, dtype, compile), specs_of(specs, len(jobs))
    layout = layout_of(base.exact or base, specs)
    kind = lesson or WordLesson
    parts: list[tuple[list[int], Fitted]] = []
    for members in arrange([shape_of(job) for job in jobs], slots):
        group, shapes = [jobs[i] for i in members], [specs[i] for i in members]
        row = kind.row(group[0].tokens.shape[1] - 1)  # the last token is never an input
        lanes = min(lanes_of_group(group[0].batch_size, slots), len(group))
        learned = kind(base, shapes, layout, group, kernels_for(base, row), lanes)
        lessons = lessons_of(learned, base)
        master = master_dtype(base.dtype)
        parts.append((members, fit_lanes(shapes, layout, lessons, master, base.device)))
    order = torch.tensor([i for members, _ in parts for i in members])
    return join([part for _, part in parts]).select(order.argsort())


def schedule(jobs: Sequence[FitJob]) -> Tensor:
    """The learning rate of each job at each of its steps: (jobs, steps) float64."""
    total = torch.tensor([[job.steps] for job in jobs], dtype=torch.float64)
    warmup = torch.tensor([[job.warmup] for job in jobs], dtype=torch.float64)
    rates = torch.tensor([[job.learning_rate] for job in jobs], dtype=torch.float64)
    steps = torch.arange(int(total.max()), dtype=torch.float64)
    fall = ((total - steps) / (total - warmup).clamp(min=1)).clamp(min=0)
    return rates * torch.where(steps < warmup, steps / warmup.clamp(min=1), fall)


class WordLesson:
    """What a group of language jobs is trained on: its data, step by step, and its loss."""

    def __init__(
        self,
        base: FrozenBase,
        specs: Sequence[AdapterSpec],
        layout: Layout,
        jobs: Sequence[FitJob],
        kernels: Kernels,
        lanes: int,
    ):
        self.base, self.layout, self.kernels = base, layout, kernels
        self.data = GroupData(jobs, layout.shapes, lanes, base.device)
        self.timeline, self.steps = self.data.timeline, self.data.steps
        self.seeds = [job.seed for job in jobs]
        self.scales = layout.scales(specs, master_dtype(base.dtype)).to(base.device)
        self.rates = schedule(jobs)
        self.decays = torch.tensor([job.weight_decay for job in jobs], dtype=torch.float64)
        self.clips = torch.tensor([job.clip_norm for job in jobs], dtype=torch.float64)
        self.last = torch.tensor([job.steps_per_epoch for job in jobs])

    @staticmethod
    def row(length: int) -> int:
        """Tokens of the longest row where the longest example has so many."""
        return length

    def part(self, base: FrozenBase, spans: Sequence[range]) -> Self:
        """Some steps of each job, on the same base in another type."""
        made = copy.copy(self)
        made.base, made.data = base, self.data.part(spans)
        made.timeline = made.data.timeline
        made.kernels = kernels_for(base, self.row(self.data.length))
        return made

    def loss(self, step: int, rows: Tensor) -> Tensor:
        """The loss of the adapter in each lane: (lanes, p) -> (lanes,)."""
        batch = self.data.batch(step)
        scales = self.scales if len(self.scales) == 1 else self.scales[self.data.at(step)[0]]
        scaled = with_gains(self.layout, rows * scales, self.base.weight_of)
        scaled = scaled.to(self.base.dtype).repeat_interleave(self.data.copies, 0)
        pairs = pairs_by_block(self.layout.unpack(scaled), len(self.base.blocks))
        views = causal_views(self.base, batch.seen, batch.asked, batch.places)
        lane, token = self.data.standing(batch.seen)
        losses = answer_losses(
            self.base,
            self.kernels,
            batch.tokens,
            batch.labels[..., None],
            views,
            pairs,
            self.dropout(step, lane, token),
        )
        weighted = losses[..., 0] * batch.weights.to(losses.dtype)
        return weighted.view(len(rows), -1).sum(1)

    def dropout(self, step: int, lane: Tensor, token: Tensor) -> list[Dropout] | None:
        """The dropout of each block at a step, None where no job asks for any.

        lane: (k,) of each token, token: (k,) which of its lane's padded batch it is.
        """
        if not self.data.drops:
            return None
        job = self.data.at(step)[0][lane]
        threshold = self.data.thresholds[job][:, None]
        scale = self.data.scales[job].to(self.base.dtype)[:, None]
        noise = dict(self.data.noise(step, lane, token))
        return [
            Dropout(each, threshold, scale) for each in noise_by_block(noise, len(self.base.blocks))
        ]
