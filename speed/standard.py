"""What a standard evaluation of one adapter costs: measured whole, or added up from measured parts.

An evaluation is tried in three batch sizes, in the type that was fastest in a trial, and the fastest counts; of
language models the first two sizes say in which direction the third lies.
The adapter is merged into the base beforehand and neither loading nor merging is counted: all of this is in
favour of the evaluation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from speed.clock import Clock

__all__ = [
    "Part",
    "Standard",
    "climbed",
    "fastest",
    "free_bytes",
    "trial",
    "type_name",
    "types_of",
]


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
    seconds of every type and batch size; `trial` those of a short piece in each type, where that chose one.
    `way` tells it from other ways to the same score, where there are several.
    """

    what: str
    seconds: float
    dtype: str
    batch: int
    extrapolated: bool = False
    parts: tuple[Part, ...] = ()
    tried: tuple[tuple[str, int, float], ...] = ()
    trial: tuple[tuple[str, float], ...] = ()
    way: str = ""

    @classmethod
    def added_up(
        cls, what: str, dtype: str, batch: int, parts: tuple[Part, ...], way: str = ""
    ) -> "Standard":
        """An evaluation that is not run as a whole."""
        total = sum(part.seconds * part.calls for part in parts)
        return cls(what, total, dtype, batch, True, parts, way=way)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def fastest(found: Iterable[Standard], trial: Mapping[str, float] | None = None) -> Standard:
    """The fastest of several ways to do the same evaluation; it remembers what the others took."""
    ways = list(found)
    tried = tuple((way.dtype, way.batch, way.seconds) for way in ways)
    best = min(ways, key=lambda way: way.seconds)
    return replace(best, tried=tried, trial=tuple((trial or {}).items()))


def climbed(sizes: Sequence[int], take: Callable[[int], Standard]) -> list[Standard]:
    """At most three sizes, from the middle one: the next larger, then on where that was faster, else back.

    Example:
        >>> costs = {1: 5.0, 2: 4.0, 4: 3.0, 8: 2.0, 16: 1.0}
        >>> found = climbed(list(costs), lambda n: Standard("it", costs[n], "float32", n))
        >>> [way.batch for way in found]
        [4, 8, 16]
    """
    middle = len(sizes) // 2
    found = [take(size) for size in sizes[middle : middle + 2]]
    faster = len(found) == 2 and found[1].seconds < found[0].seconds
    last = middle + 2 if faster else middle - 1
    if 0 <= last < len(sizes):
        found.append(take(sizes[last]))
    return found


def free_bytes(device: str) -> float:
    """Memory that is free for an evaluation; infinity where the system does not say."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        return float(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return float("inf")


def types_of(device: str) -> tuple[torch.dtype, ...]:
    """The types that an evaluation is tried in: half precision, on CPUs (some lack it) float32 too.

    CPUs without arithmetic in float16 compute it by detours, several times slower: there it is left out.
    """
    if torch.device(device).type == "cuda":
        return torch.float16, torch.bfloat16
    able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return (torch.bfloat16, torch.float32, *((torch.float16,) if able else ()))


def trial(
    clock: Clock, make: Callable[[torch.dtype], Callable[[], object]]
) -> dict[torch.dtype, float]:
    """Seconds of a short piece of an evaluation in each type; what `make` gives is freed before the next."""
    return {dtype: clock.seconds(make(dtype)) for dtype in types_of(clock.device)}


def type_name(dtype: torch.dtype) -> str:
    """The name of a type without its module."""
    return str(dtype).removeprefix("torch.")
