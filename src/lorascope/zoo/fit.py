"""Finetune many adapters at once on one frozen base, each as if it were alone.

One forward and one backward serve a whole group; AdamW runs on one (g, p) buffer with vectors of
rates, decays and schedules. An adapter that has finished, or diverged, is frozen. An adapter
depends on its own job alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorascope.errors import TrainingError
from lorascope.zoo.causal_lm import Dropout, FrozenBase
from lorascope.zoo.fitted import Fitted, Layout, join
from lorascope.zoo.group import Batch, GroupData, JobShape, adapters_of_group, arrange
from lorascope.zoo.jobs import AdapterSpec, FitJob
from lorascope.zoo.kernels import frozen, kernels_for
from lorascope.zoo.network import (
    Kernels,
    answer_losses,
    causal_views,
    noise_by_block,
    pairs_by_block,
)

__all__ = ["fit_adapters", "layout_of"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8
SLOTS = 64


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
        run = GroupRun(base, spec, layout, group, kernels, slots if kernels.static else 0)
        parts.append((members, run.fit()))
    order = torch.tensor([i for members, _ in parts for i in members])
    return join([part for _, part in parts]).select(order.argsort())


def schedule(jobs: Sequence[FitJob], longest: int) -> Tensor:
    """The learning rate of each adapter at each step: (steps, g) float64, 0 once it has finished."""
    steps = torch.arange(longest, dtype=torch.float64)[:, None]
    total = torch.tensor([job.steps for job in jobs], dtype=torch.float64)
    warmup = torch.tensor([job.warmup for job in jobs], dtype=torch.float64)
    rates = torch.tensor([job.learning_rate for job in jobs], dtype=torch.float64)
    fall = ((total - steps) / (total - warmup).clamp(min=1)).clamp(min=0)
    return rates * torch.where(steps < warmup, steps / warmup.clamp(min=1), fall)


class GroupRun:
    """The training of one group: its data, its buffer and its optimiser."""

    def __init__(
        self,
        base: FrozenBase,
        spec: AdapterSpec,
        layout: Layout,
        jobs: Sequence[FitJob],
        kernels: Kernels,
        slots: int,
    ):
        idle = max(0, adapters_of_group(jobs[0].batch_size, slots) - len(jobs)) if slots else 0
        self.base, self.spec, self.layout, self.kernels = base, spec, layout, kernels
        self.data = GroupData(jobs, layout.shapes, idle)
        self.count = len(jobs)
        dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
        jobs = self.data.jobs
        self.rows = layout.first([job.seed for job in jobs], dtype).requires_grad_()
        self.scales = layout.scales(spec.factor, dtype)
        self.rates = schedule(jobs, self.data.longest)
        self.decays = torch.tensor([job.weight_decay for job in jobs], dtype=torch.float64)
        self.clips = torch.tensor([job.clip_norm for job in jobs], dtype=dtype)[:, None]
        self.first, self.second = torch.zeros_like(self.rows), torch.zeros_like(self.rows)
        self.finite = torch.ones(len(jobs), dtype=torch.bool)
        self.losses = torch.zeros(self.data.longest, len(jobs), dtype=torch.float64)

    def fit(self) -> Fitted:
        """Run every step; the idle copies at the end are dropped."""
        for step in range(self.data.longest):
            loss = self.loss(step)
            (gradient,) = torch.autograd.grad(loss.sum(), self.rows)
            self.update(step, loss.detach(), gradient)
        steps = self.data.steps
        epoch = torch.tensor([job.steps_per_epoch for job in self.data.jobs])
        at = torch.arange(self.data.longest)[:, None]
        late = (at < steps) & (at >= steps - epoch)
        mean = torch.where(late, self.losses, 0).sum(0) / epoch
        fitted = Fitted(
            self.spec, self.layout, self.rows.detach(), mean.float(), steps, self.finite
        )
        return fitted.select(range(self.count))

    def loss(self, step: int) -> Tensor:
        """The loss of each adapter at a step: (g,)."""
        batch = self.data.batch(step)
        scaled = (self.rows * self.scales).to(self.base.dtype)
        scaled = scaled.repeat_interleave(self.data.copies, 0)
        blocks = len(self.base.blocks)
        pairs = pairs_by_block(self.layout.unpack(scaled), blocks)
        views = causal_views(self.base, self.data.length, batch.places)
        dropout = self.dropout(step)
        losses = answer_losses(
            self.base, self.kernels, batch.tokens, batch.labels[..., None], views, pairs, dropout
        )
        return self._weighted(losses, batch)

    def _weighted(self, losses: Tensor, batch: Batch) -> Tensor:
        weighted = losses[..., 0] * batch.weights.to(losses.dtype)
        return weighted.view(len(self.data.jobs), -1).sum(1)

    def dropout(self, step: int) -> list[Dropout] | None:
        """The dropout of each block at a step, None where no job asks for any."""
        if self.data.thresholds is None:
            return None
        threshold = self.data.thresholds.to(torch.uint8)[:, None, None, None]
        scale = self.data.scales.to(self.base.dtype)[:, None, None, None]
        noise = noise_by_block(dict(self.data.noise(step)), len(self.base.blocks))
        return [Dropout(each, threshold, scale) for each in noise]

    @torch.no_grad()
    def update(self, step: int, loss: Tensor, gradient: Tensor) -> None:
        """AdamW on every row, with each adapter's own rate, decay and clipping."""
        norm = gradient.norm(dim=1, keepdim=True)
        self.finite &= torch.isfinite(norm[:, 0]) & torch.isfinite(loss)
        self.losses[step] = loss
        gradient = gradient * (self.clips / (norm + 1e-6)).clamp(max=1)
        active = (self.finite & (step < self.data.steps))[:, None]
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        rate = self.rates[step].to(gradient.dtype)[:, None]
        decay = (1 - self.rates[step] * self.decays).to(gradient.dtype)[:, None]
        size = (self.second / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(EPSILON)
        changed = self.rows * decay - rate / (1 - BETAS[0] ** (step + 1)) * self.first / size
        self.rows.copy_(torch.where(active, changed, self.rows))
