"""How a function of a LoRA transforms when the gauge changes: the word that models declare.

A change of gauge sends each pair (u, v) to (u g, v g^-T). What is meant by a declared symmetry is the
largest group of g under which the output is invariant; the contract tests prove it, and prove that a
model which declares less really breaks the rest.
"""

from enum import Enum
from functools import total_ordering

__all__ = ["Symmetry"]


@total_ordering
class Symmetry(Enum):
    """The group of gauges that leave an output unchanged, ordered by size: NONE < O < GL.

    Example:
        >>> Symmetry.O < Symmetry.GL
        True
    """

    NONE = "none"
    O = "O(r)"  # noqa: E741 - the orthogonal group's own letter
    GL = "GL(r)"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Symmetry):
            return NotImplemented
        order = list(Symmetry)
        return order.index(self) < order.index(other)
