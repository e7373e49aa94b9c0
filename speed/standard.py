"""What a standard evaluation of one adapter costs: measured whole, or added up from measured parts.

An evaluation is tried in some types and three batch sizes, and the fastest counts. The adapter is merged into
the base beforehand and neither loading nor merging is counted: all of this is in favour of the evaluation.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

__all__ = ["Part", "Standard", "fastest", "type_name", "types_of"]


@dataclass(frozen=True)
class Part:
    """A measured step of an evaluation, and how many times it is done."""

    name: str
    seconds: float
    calls: float


@dataclass(frozen=True)
class Standard:
    """The cost of one evaluation at its best.

    `extrapolated` says that it was added up from `parts`; else `seconds` is one measured run. `tried` holds the
    seconds of every type and batch size.
    """

    what: str
    seconds: float
    dtype: str
    batch: int
    extrapolated: bool = False
    parts: tuple[Part, ...] = ()
    tried: tuple[tuple[str, int, float], ...] = ()

    @classmethod
    def added_up(cls, what: str, dtype: str, batch: int, parts: tuple[Part, ...]) -> "Standard":
        """An evaluation that is not run as a whole."""
        total = sum(part.seconds * part.calls for part in parts)
        return cls(what, total, dtype, batch, True, parts)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def fastest(found: Iterable[Standard]) -> Standard:
    """The fastest of several ways to do the same evaluation; it remembers what the others took."""
    ways = list(found)
    tried = tuple((way.dtype, way.batch, way.seconds) for way in ways)
    best = min(ways, key=lambda way: way.seconds)
    return Standard(
        best.what, best.seconds, best.dtype, best.batch, best.extrapolated, best.parts, tried
    )


def types_of(device: str) -> tuple[torch.dtype, ...]:
    """The types that an evaluation is tried in: half precision, on CPUs (some lack it) float32 too."""
    if torch.device(device).type == "cuda":
        return torch.float16, torch.bfloat16
    return torch.bfloat16, torch.float32


def type_name(dtype: torch.dtype) -> str:
    """The name of a type without its module."""
    return str(dtype).removeprefix("torch.")
