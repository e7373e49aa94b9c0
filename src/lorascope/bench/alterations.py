"""The same LoRAs written otherwise: what must not change a prediction, or only a little.

    gauge   (u g, v g^-T) with an independent random g for each layer, condition number up to 10
    bf16, fp16   every factor rounded to that type
    int8    every direction of every factor on 255 steps of its own largest entry

The altered batch holds float32 again: it is what a reader gets from such a file.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.symmetry.action import act, random_gauges
from lorascope.train.data import LabelledLoRAs

__all__ = ["ALTERATIONS", "altered"]

SEED = 0  # of the random gauges: the same for every method


def altered(name: str, data: LabelledLoRAs) -> LabelledLoRAs:
    """The data with its LoRAs written otherwise; labels and groups stay.

    Example:
        >>> altered("bf16", data).labels is data.labels
        True
    """
    return replace(data, batch=ALTERATIONS[name](data.batch))


def _regauged(batch: LoRABatch) -> LoRABatch:
    generator = torch.Generator().manual_seed(SEED)
    moved = act(random_gauges(batch.to(torch.float64), generator=generator), batch)
    return moved.to(batch.dtype)


def _rounded(change: Callable[[Tensor], Tensor]) -> Callable[[LoRABatch], LoRABatch]:
    def apply(batch: LoRABatch) -> LoRABatch:
        groups = [GroupBatch(change(g.u).to(g.u), change(g.v).to(g.v)) for g in batch.groups]
        return batch.with_groups(groups)

    return apply


def _int8(x: Tensor) -> Tensor:  # (l, b, r, n)
    step = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (x / step).round() * step


#: Name -> what it does to a batch.
ALTERATIONS: Mapping[str, Callable[[LoRABatch], LoRABatch]] = {
    "gauge": _regauged,
    "bf16": _rounded(lambda x: x.to(torch.bfloat16)),
    "fp16": _rounded(lambda x: x.to(torch.float16)),
    "int8": _rounded(_int8),
}
