"""Everything random about one image adapter besides A: which pictures, times and noise it sees."""

import math

import torch
from torch import Tensor

from lorascope.zoo.engine.draws import stream
from lorascope.zoo.engine.image.job import ImageJob

__all__ = ["noise_stream", "picture_order", "picture_times"]


def picture_order(job: ImageJob) -> Tensor:
    """Which picture stands in which row of which step: (steps, b) int64, round after round."""
    generator, count = stream(job.seed, "order"), len(job.latents)
    rounds = math.ceil(job.steps * job.batch_size / count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])
    return order[: job.steps * job.batch_size].view(job.steps, job.batch_size)


def picture_times(job: ImageJob, times: int) -> Tensor:
    """The time of every row, uniform: (steps, b) int64."""
    generator = stream(job.seed, "times")
    return torch.randint(times, (job.steps, job.batch_size), generator=generator)


def noise_stream(job: ImageJob) -> torch.Generator:
    """The generator of the noise: one draw of (b, c, h, w) normal numbers each step."""
    return stream(job.seed, "noise")
