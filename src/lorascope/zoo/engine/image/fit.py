"""Finetune many adapters of a UNet at once, each as if it were alone.

One forward and one backward serve a whole group (`lanes.py` has the loop). Pictures, times and
noise come from each job's own seed, so an adapter depends on its own job alone.
"""

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec, specs_of
from lorascope.zoo.engine.dora import with_gains
from lorascope.zoo.engine.fitted import Fitted, join
from lorascope.zoo.engine.grouping import JobShape, arrange, lanes_of_group
from lorascope.zoo.engine.image.base import ImageBase, layout_of
from lorascope.zoo.engine.image.draws import noise_stream, picture_order, picture_times
from lorascope.zoo.engine.image.job import ImageJob
from lorascope.zoo.engine.image.layers import Pair
from lorascope.zoo.engine.image.network import loss_of
from lorascope.zoo.engine.lanes import fit_lanes, master_dtype
from lorascope.zoo.engine.layout import Layout
from lorascope.zoo.engine.opening import lessons_of
from lorascope.zoo.engine.timeline import timeline

__all__ = ["SLOTS", "fit_images", "pairs_of", "shape_of"]

SLOTS = 64  # rows of a step: half as many cost a fifth more, twice as many save a tenth
LAST = 20  # steps that the reported loss averages


def shape_of(job: ImageJob) -> JobShape:
    """What decides with which others a job trains."""
    return JobShape(job.batch_size, job.latents[0].numel(), False, job.steps)


def fit_images(
    base: ImageBase,
    specs: AdapterSpec | Sequence[AdapterSpec],
    jobs: Sequence[ImageJob],
    *,
    slots: int = SLOTS,
) -> Fitted:
    """Finetune one adapter per job; the answer is in the order of the jobs.

    Args:
        base: the frozen UNet; adapters and optimiser are float32, or float64 on a base of float64.
        specs: of all adapters, or of each: the same targets, any ranks and alphas.
        slots: how many adapters train at once.

    Raises:
        DataError: there are more or fewer specs than jobs.
        TrainingError: the UNet has no module that the targets name, or latents do not fit it.
    """
    specs = specs_of(specs, len(jobs))
    layout = layout_of(base.exact or base, specs)
    parts: list[tuple[list[int], Fitted]] = []
    for members in arrange([shape_of(job) for job in jobs], slots):
        group, shapes = [jobs[i] for i in members], [specs[i] for i in members]
        most = lanes_of_group(group[0].batch_size, slots)
        lanes = math.ceil(len(group) / math.ceil(len(group) / most))  # as many jobs in each
        lessons = lessons_of(PictureLesson(base, shapes, layout, group, lanes), base)
        master = master_dtype(base.dtype)
        parts.append((members, fit_lanes(shapes, layout, lessons, master, base.device)))
    order = torch.tensor([i for members, _ in parts for i in members])
    return join([part for _, part in parts]).select(order.argsort())


def pairs_of(base: ImageBase, layout: Layout, scaled: Tensor) -> dict[str, Pair]:
    """The factors of each layer as the network takes them, from rows with the scale in B (g, p)."""
    rows = with_gains(layout, scaled, base.unet.matrix)
    if base.unet.packed is None:  # the kernels in C take float32
        rows = rows.to(base.dtype)
    return {name: Pair(*factors) for name, factors in layout.unpack(rows).items()}


class PictureLesson:
    """What a group of image jobs of one batch size is trained on, and its loss."""

    def __init__(
        self,
        base: ImageBase,
        specs: Sequence[AdapterSpec],
        layout: Layout,
        jobs: Sequence[ImageJob],
        lanes: int,
    ):
        self.base, self.layout, self.jobs = base, layout, jobs
        self.master = master_dtype(base.dtype)
        self.seeds = [job.seed for job in jobs]
        self.steps = torch.tensor([job.steps for job in jobs])
        self.timeline = timeline(self.steps.tolist(), lanes)
        self.turns = self.timeline.turns(base.device)
        self.scales = layout.scales(specs, self.master).expand(len(jobs), -1).to(base.device)
        rates = torch.tensor([[job.learning_rate] for job in jobs], dtype=torch.float64)
        self.rates = rates.expand(-1, int(self.steps.max())).clone()
        self.decays = torch.tensor([job.weight_decay for job in jobs], dtype=torch.float64)
        self.clips = torch.tensor([job.clip_norm for job in jobs], dtype=torch.float64)
        self.last = self.steps.clamp(max=LAST)
        self._stack()

    def _stack(self) -> None:
        """Pictures, their order, times and texts of all jobs."""
        shapes = {tuple(job.latents.shape[1:]) for job in self.jobs}
        if len(shapes) > 1:
            raise TrainingError(
                f"finetuning image adapters: found latents of the shapes {sorted(shapes)} in one "
                "group, expected one. Try pictures of one size"
            )
        most, longest = max(len(job.latents) for job in self.jobs), int(self.steps.max())
        self.latents = torch.zeros(len(self.jobs), most, *shapes.pop(), dtype=self.master)
        rows = (len(self.jobs), longest, self.jobs[0].batch_size)
        self.order, self.times = (torch.zeros(rows, dtype=torch.int64) for _ in range(2))
        for j, job in enumerate(self.jobs):
            self.latents[j, : len(job.latents)] = job.latents
            self.order[j, : job.steps] = picture_order(job)
            self.times[j, : job.steps] = picture_times(job, len(self.base.levels))
        self.generators = [noise_stream(job) for job in self.jobs]
        prompts, self.prompt = torch.unique(
            torch.stack([job.prompt for job in self.jobs]), dim=0, return_inverse=True
        )
        device = self.base.device
        self.latents, self.order, self.times, self.prompt = (
            part.to(device) for part in (self.latents, self.order, self.times, self.prompt)
        )
        self.texts = self.base.read(prompts).to(device)[:, None]

    def part(self, base: ImageBase, spans: Sequence[range]) -> Self:
        """Some steps of each job, on the same base in another type; parts are taken in turn.

        They share the generators: the noise of a job goes on where its last part has ended.
        """
        made = copy.copy(self)
        made.base, made.timeline = base, timeline(spans, self.timeline.jobs.shape[1])
        made.turns = made.timeline.turns(base.device)
        return made

    def noise(self, jobs: Sequence[int]) -> Tensor:
        """The next noise of some jobs: (jobs, b, c, h, w), drawn on the CPU."""
        size = (self.jobs[0].batch_size, *self.latents.shape[2:])
        drawn = [torch.randn(size, generator=self.generators[j]) for j in jobs]
        return torch.stack(drawn).to(self.base.device, self.master)

    def loss(self, step: int, rows: Tensor) -> Tensor:
        """The loss of the adapter in each lane, 0 where it is idle: (lanes, p) -> (lanes,)."""
        turn = self.turns[step]
        busy = turn.lanes
        jobs, local = turn.jobs[busy], turn.local[busy]
        times, order = self.times[jobs, local], self.order[jobs, local]
        clean, noise = self.latents[jobs[:, None], order], self.noise(turn.names)
        level = self.base.levels[times].to(self.master)[..., None, None, None]
        noisy = (level.sqrt() * clean + (1 - level).sqrt() * noise).to(self.base.dtype)
        unet = self.base.unet
        clock = unet.clock(times.flatten()).to(unet.dtype).view(*times.shape, -1)
        pairs = pairs_of(self.base, self.layout, rows[busy] * self.scales[jobs])
        texts = self.texts[self.prompt[jobs]].to(unet.dtype)
        found = loss_of(unet.plan, unet.weights, pairs, noisy, clock, texts, noise, unet.packed)
        return found.new_zeros(len(rows)).index_put((busy,), found)
