"""Everything random about one adapter, from its own seed alone: A, the order of the data, dropout.

Each use has its own stream, so that one more draw in one place moves nothing in another.

Dropout masks are windows of one bank of random bytes, at offsets that the adapter's seed draws: an
element is kept where its byte reaches 256 p (p is rounded to 1/256). Drawing fresh numbers for
each mask took half of the time of a training step.
"""

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "byte_bank",
    "data_order",
    "dropout_threshold",
    "first_factors",
    "mask_offsets",
    "stream",
]

SMALLEST_BANK = 1 << 22  # bytes; several times the longest window, small enough for the cache


def stream(seed: int, use: str) -> torch.Generator:
    """The random generator of one use of one seed."""
    digest = hashlib.blake2b(f"{seed}/{use}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def first_factors(
    seed: int, shapes: Mapping[str, Sequence[Any]], ranks: int | Mapping[str, int]
) -> dict[str, Tensor]:
    """A of each layer at the start: (r, m) float32, uniform in +-1/sqrt(m) as PEFT draws it.

    shapes: layer -> (n, m, ...); ranks: of all layers, or of each.
    """
    generator = stream(seed, "A")
    factors = {}
    for name, (_, m, *_) in shapes.items():
        rank = ranks if isinstance(ranks, int) else ranks[name]
        factors[name] = (torch.rand(rank, m, generator=generator) * 2 - 1) / math.sqrt(m)
    return factors


def data_order(seed: int, examples: int, epochs: int, batch_size: int) -> Tensor:
    """Which example stands in which row of which step: (steps, batch_size) int64, -1 for no row."""
    generator = stream(seed, "order")
    width = math.ceil(examples / batch_size) * batch_size
    order = torch.full((epochs, width), -1, dtype=torch.int64)
    for epoch in range(epochs):
        order[epoch, :examples] = torch.randperm(examples, generator=generator)
    return order.view(-1, batch_size)


def bank_size(longest: int) -> int:
    """Bytes of the bank from which windows of at most `longest` bytes are cut."""
    return max(SMALLEST_BANK, 1 << (4 * longest - 1).bit_length())


@functools.lru_cache(maxsize=2)
def byte_bank(longest: int) -> Tensor:
    """The bank of random bytes, the same for every adapter: (bank_size,) uint8."""
    generator = stream(0, "dropout bank")
    size = bank_size(longest)
    return torch.randint(256, (size,), dtype=torch.uint8, generator=generator)


def mask_offsets(seed: int, steps: int, windows: Mapping[str, int]) -> dict[str, Tensor]:
    """Where in the bank the mask of each layer and step begins.

    windows: layer -> bytes of one mask; returns layer -> (steps,) int64.
    """
    generator = stream(seed, "dropout")
    size = bank_size(max(windows.values()))
    return {
        name: torch.randint(size - window + 1, (steps,), generator=generator)
        for name, window in windows.items()
    }


def dropout_threshold(dropout: float) -> tuple[int, float]:
    """The byte from which an element is kept, and the scale 1/(1 - p) that goes with it."""
    threshold = min(round(dropout * 256), 255)
    return threshold, 256 / (256 - threshold)
