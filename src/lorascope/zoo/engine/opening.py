"""The opening: the first steps of every adapter are computed in float32, the rest in the base's type.

Adam's first step moves every number by the learning rate, whatever the size of its gradient: m / sqrt(v)
is its sign. B starts at zero, so the whole update is these signs, and rounding in bfloat16 turns those of
small gradients: the update has a cosine of .98 to .997 with that of float32, and keeps part of the error.
After a few steps m / sqrt(v) is smooth, and a gradient that is one percent off moves little.

Of a language model's training at high rates over 150 steps and more, the rest must be finer, too: with bfloat16
throughout the worst of 14 came to .995. It is the logits and the residual stream that need float32 (.9994);
what the products with frozen matrices round does not matter (`FrozenBase.later`). Of a UNet's it does not.
"""

from collections.abc import Sequence
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

__all__ = ["lessons_of", "opens", "spans_of"]


class Base(Protocol):
    """A frozen base."""

    @property
    def exact(self) -> Any:
        """The same base in float32, or None where all is computed in one type."""

    @property
    def exact_steps(self) -> int:
        """How many of each adapter's steps it computes."""

    @property
    def later(self) -> Any:
        """What computes the rest of them."""


class Divisible(Protocol):
    """A lesson of which a part can be taken."""

    steps: Tensor  # (jobs,) of each job

    def part(self, base: Any, spans: Sequence[range]) -> Self:
        """Some steps of each job, on another base."""


L = TypeVar("L", bound=Divisible)


def opens(dtype: torch.dtype) -> bool:
    """Whether a type is so coarse that the first steps want a finer one."""
    return torch.finfo(dtype).bits < 32


def spans_of(steps: Sequence[int], first: int) -> tuple[list[range], list[range]]:
    """Which steps of each job belong to the opening, and which to the rest.

    Example:
        >>> spans_of([2, 5], first=3)
        ([range(0, 2), range(0, 3)], [range(2, 2), range(3, 5)])
    """
    return [range(min(first, n)) for n in steps], [range(min(first, n), n) for n in steps]


def lessons_of(lesson: L, base: Base) -> list[L]:
    """A lesson on a base: in one piece, or its opening and what is left of it."""
    if base.exact is None or base.exact_steps < 1:
        return [lesson]
    opening, rest = spans_of(lesson.steps.tolist(), base.exact_steps)
    parts = [lesson.part(base.exact, opening)]
    return [*parts, lesson.part(base.later, rest)] if any(rest) else parts
