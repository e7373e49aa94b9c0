"""Finetune many adapters at once on one frozen base, each as if it were alone.

One forward and one backward serve a whole group; AdamW runs on one (g, p) buffer with vectors of
rates, decays and schedules. An adapter that has ended makes room for the next one; one that has
diverged keeps its last finite numbers. An adapter depends on its own job alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted, Layout, join
from lorascope.zoo.engine.language.causal_lm import Dropout
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.group import GroupData, JobShape, arrange, lanes_of_group
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.language.kernels import frozen, kernels_for
from lorascope.zoo.engine.language.network import (
    Kernels,
    answer_losses,
    causal_views,
    noise_by_block,
    pairs_by_block,
)

__all__ = ["fit_adapters", "layout_of"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8
SLOTS = 32


def layout_of(base: FrozenBase, spec: AdapterSpec) -> Layout:
    """Where the factors of an adapter of this base lie.

    Raises:
        TrainingError: the base has no module that the targets name.
    """
    shapes = base.targeted(spec.targets)
    if not shapes:
        known = sorted({path.rsplit(".", 1)[-1] for path in base.linear_shapes})
        raise TrainingError(
            f"laying out adapters: no module of the base ends in {list(spec.targets)}. Try {known}"
        )
    return Layout(shapes, spec.rank)


def fit_adapters(
    base: nn.Module | FrozenBase,
    spec: AdapterSpec,
    jobs: Sequence[FitJob],
    *,
    dtype: torch.dtype | None = None,
    compile: bool | None = None,
    slots: int = SLOTS,
) -> Fitted:
    """Finetune one adapter per job; the answer is in the order of the jobs.

    Args:
        base: the frozen model (float64 or float32 weights), or its `FrozenBase`.
        dtype: of the activations (that of a `FrozenBase`, or float32); adapters and optimiser are
            float32, or float64 for float64.
        compile: fuse with torch.compile where a C++ compiler works; short groups are padded.
            None keeps what a `FrozenBase` says.
        slots: how many batches of at most 8 rows train at once.

    Raises:
        TrainingError: the base has no module that the spec targets.
    """
    base = frozen(base, dtype, compile)
    layout = layout_of(base, spec)
    kernels = kernels_for(base.compiled)
    parts: list[tuple[list[int], Fitted]] = []
    for members in arrange([JobShape.of(job) for job in jobs], slots):
        group = [jobs[i] for i in members]
        lanes = lanes_of_group(group[0].batch_size, slots)
        lanes = lanes if kernels.static else min(lanes, len(group))
        parts.append((members, GroupRun(base, spec, layout, group, kernels, lanes).fit()))
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


class GroupRun:
    """The training of one group: its data, and the adapters and optimiser state in its lanes."""

    def __init__(
        self,
        base: FrozenBase,
        spec: AdapterSpec,
        layout: Layout,
        jobs: Sequence[FitJob],
        kernels: Kernels,
        lanes: int,
    ):
        self.base, self.spec, self.layout, self.kernels = base, spec, layout, kernels
        self.data = GroupData(jobs, layout.shapes, lanes)
        dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
        self.stored = layout.first([job.seed for job in jobs], dtype)  # (jobs, p)
        self.rows = torch.zeros(lanes, self.stored.shape[1], dtype=dtype, requires_grad=True)
        self.first, self.second = (torch.zeros_like(self.rows.detach()) for _ in range(2))
        self.scales = layout.scales(spec.factor, dtype)
        self.rates = schedule(jobs)
        self.decays = torch.tensor([job.weight_decay for job in jobs], dtype=torch.float64)
        self.clips = torch.tensor([job.clip_norm for job in jobs], dtype=torch.float64)
        self.finite = torch.ones(len(jobs), dtype=torch.bool)
        self.losses = torch.zeros_like(self.rates)

    def fit(self) -> Fitted:
        """Run every step of every lane."""
        for step in range(len(self.data.timeline)):
            self.enter(step)
            loss = self.loss(step)
            (gradient,) = torch.autograd.grad(loss.sum(), self.rows)
            self.update(step, loss.detach(), gradient)
        epoch = torch.tensor([job.steps_per_epoch for job in self.data.jobs])
        steps = self.data.steps
        at = torch.arange(self.losses.shape[1])
        late = (at < steps[:, None]) & (at >= (steps - epoch)[:, None])
        mean = torch.where(late, self.losses, 0).sum(1) / epoch
        return Fitted(self.spec, self.layout, self.stored, mean.float(), steps, self.finite)

    @torch.no_grad()
    def enter(self, step: int) -> None:
        """Put the jobs that begin at a step into their lanes."""
        jobs, local = self.data.at(step)
        fresh = (local == 0).nonzero()[:, 0]
        self.rows[fresh] = self.stored[jobs[fresh]]
        self.first[fresh] = 0
        self.second[fresh] = 0

    def loss(self, step: int) -> Tensor:
        """The loss of the adapter in each lane: (lanes,)."""
        batch = self.data.batch(step)
        scaled = (self.rows * self.scales).to(self.base.dtype)
        scaled = scaled.repeat_interleave(self.data.copies, 0)
        pairs = pairs_by_block(self.layout.unpack(scaled), len(self.base.blocks))
        views = causal_views(self.base, self.data.length, batch.places)
        losses = answer_losses(
            self.base,
            self.kernels,
            batch.tokens,
            batch.labels[..., None],
            views,
            pairs,
            self.dropout(step),
        )
        weighted = losses[..., 0] * batch.weights.to(losses.dtype)
        return weighted.view(len(self.rows), -1).sum(1)

    def dropout(self, step: int) -> list[Dropout] | None:
        """The dropout of each block at a step, None where no job asks for any."""
        if not self.data.drops:
            return None
        jobs = self.data.at(step)[0].repeat_interleave(self.data.copies)
        threshold = self.data.thresholds[jobs][:, None, None, None]
        scale = self.data.scales[jobs].to(self.base.dtype)[:, None, None, None]
        noise = noise_by_block(dict(self.data.noise(step)), len(self.base.blocks))
        return [Dropout(each, threshold, scale) for each in noise]

    @torch.no_grad()
    def update(self, step: int, loss: Tensor, gradient: Tensor) -> None:
        """AdamW on every lane, with each job's own rate, decay and clipping; store what has ended."""
        jobs, local = self.data.at(step)
        busy = self.data.timeline.jobs[step] >= 0
        norm = gradient.norm(dim=1)
        sound = torch.isfinite(norm) & torch.isfinite(loss)
        self.finite[jobs[busy & ~sound]] = False
        self.losses[jobs[busy], local[busy]] = loss[busy].double()
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
        self.rows.copy_(torch.where((busy & self.finite[jobs])[:, None], changed, self.rows))
        ended = busy & (local + 1 == self.data.steps[jobs])
        self.stored[jobs[ended]] = self.rows[ended]
