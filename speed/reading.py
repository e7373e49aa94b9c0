"""The default model's forward, and GL-net's, against one read of the factors: 64 LoRAs of Llama-3.2-3B q and v.

The read is a sum over the float32 factors. All run in turn and ratios are taken within a round. GL-net in more
detail, with what the processor's own limits allow: `speed.gl_net`.
"""

import functools
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from lorascope.models import build_model
from speed.clock import Clock
from speed.gl_net import RANK, WIDTH, llama_signature
from speed.prediction import random_batch, random_predictor

__all__ = ["Reading", "reading"]

TARGETS = {"gl_net": 2.0, "fusion": 3.0}  # times the read


@dataclass(frozen=True)
class Reading:
    """Median seconds of a read, and of each forward with its median ratio to the read."""

    loras: int
    megabytes: float
    read: float
    forward: dict[str, float]
    ratio: dict[str, float]
    target: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@torch.inference_mode()
def reading(clock: Clock, loras: int = 64) -> Reading:
    """Times the read and both forwards, features included.

    GL-net is the paper's: one equivariant layer of width 16 and a linear head on its products.
    """
    signature = llama_signature()
    batch = random_batch(signature, loras, RANK, torch.float32, clock.device)
    flat = [x.view(-1) for group in batch.groups for x in (group.u, group.v)]
    plain = build_model(
        "gl_net", signature, 1, rank=RANK, seed=0, width=WIDTH, unit_norm=False, side=False
    ).to(clock.device)
    fusion = random_predictor("fusion", signature, RANK).model.to(clock.device)
    times = clock.beside(
        {
            "read": lambda: [x.sum() for x in flat],
            "gl_net": functools.partial(plain, batch),
            "fusion": functools.partial(fusion, batch),
        }
    )
    reads = times.pop("read")
    return Reading(
        loras=loras,
        megabytes=batch.nbytes / 1e6,
        read=median(reads),
        forward={name: median(spent) for name, spent in times.items()},
        ratio={
            name: median(a / b for a, b in zip(spent, reads, strict=True))
            for name, spent in times.items()
        },
        target=dict(TARGETS),
    )
