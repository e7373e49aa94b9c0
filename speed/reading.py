"""The default model's forward, and GL-net's, against one read of the factors: 64 LoRAs of each of some bases.

q and v of Llama-3.2-3B, for which bounds are set, and beside it the smaller adapters of the workloads of
Stable Diffusion 1.4 (to_q, to_v) and Qwen2-1.5B (k, v). The read is a sum over the float32 factors. All run in
turn and ratios are taken within a round. GL-net in more detail, with what the processor's own limits allow:
`speed.gl_net`.
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from lorascope.core import Signature
from lorascope.models import build_model
from speed.clock import Clock
from speed.gl_net import RANK, WIDTH, llama_signature
from speed.prediction import random_batch, random_predictor
from speed.workloads import Workload

__all__ = ["TARGETS", "Base", "Reading", "bases", "reading"]

TARGETS = {"gl_net": 2.0, "fusion": 3.0}  # times the read


@dataclass(frozen=True)
class Base:
    """Adapters of a base, and how many reads each forward may take (none: nothing is asked)."""

    title: str
    signature: Signature
    rank: int
    target: Mapping[str, float]


@dataclass(frozen=True)
class Reading:
    """Median seconds of a read, and of each forward with its median ratio to the read."""

    title: str
    loras: int
    megabytes: float
    read: float
    forward: dict[str, float]
    ratio: dict[str, float]
    target: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def bases(workloads: Mapping[str, Workload]) -> list[Base]:
    """Llama-3.2-3B with its bounds, then the adapters of the workloads of images and of language."""
    found = [Base("Llama-3.2-3B, q and v", llama_signature(), RANK, TARGETS)]
    smaller = {"sd14": "Stable Diffusion 1.4, to_q and to_v", "qwen": "Qwen2-1.5B, k and v"}
    for name, title in smaller.items():
        workload = workloads[name]
        found.append(Base(title, workload.signature(), workload.rank, {}))
    return found


@torch.inference_mode()
def reading(clock: Clock, base: Base, loras: int = 64) -> Reading:
    """Times the read and both forwards, features included.

    GL-net is the paper's: one equivariant layer of width 16 and a linear head on its products.
    """
    batch = random_batch(base.signature, loras, base.rank, torch.float32, clock.device)
    flat = [x.view(-1) for group in batch.groups for x in (group.u, group.v)]
    plain = build_model(
        "gl_net",
        base.signature,
        1,
        rank=base.rank,
        seed=0,
        width=WIDTH,
        unit_norm=False,
        side=False,
    ).to(clock.device)
    fusion = random_predictor("fusion", base.signature, base.rank).model.to(clock.device)
    times = clock.beside(
        {
            "read": lambda: [x.sum() for x in flat],
            "gl_net": functools.partial(plain, batch),
            "fusion": functools.partial(fusion, batch),
        }
    )
    reads = times.pop("read")
    return Reading(
        title=base.title,
        loras=loras,
        megabytes=batch.nbytes / 1e6,
        read=median(reads),
        forward={name: median(spent) for name, spent in times.items()},
        ratio={
            name: median(a / b for a, b in zip(spent, reads, strict=True))
            for name, spent in times.items()
        },
        target=dict(base.target),
    )
