"""Which fold a group falls into: the rule of every split, for what makes zoos and for what learns from them.

    place(group)   the first 8 bytes of sha256("seed:group"), as a number in [0, 1)
    fold(group)    the first of train, validation, test whose cumulative fraction exceeds its place

The fold depends on the group's name and the seed alone, so growing a collection moves nothing.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

__all__ = ["FRACTIONS", "SPLITS", "fold_of", "group_place", "place_of"]

FRACTIONS = (0.7, 0.1, 0.2)
#: What `splits.json` of a zoo says.
SPLITS = {
    "rule": "fold = first of train, validation, test whose cumulative fraction exceeds hash(group); "
    "hash(group) = first 8 bytes of sha256('SEED:group') / 2^64; a seed is one repetition",
    "fractions": list(FRACTIONS),
}


def place_of(text: str) -> float:
    """Where a text falls in [0, 1), by its sha256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def group_place(group: str, seed: int) -> float:
    """Where a group falls in [0, 1), from its name and the seed alone.

    Example:
        >>> round(group_place("anna", 0), 6)
        0.257573
    """
    return place_of(f"{seed}:{group}")


def fold_of(group: str, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> int:
    """The fold of a group: 0 for train, 1 for validation, 2 for test.

    Example:
        >>> fold_of("anna"), fold_of("anna", (0.1, 0.1, 0.8))
        (0, 2)
    """
    bounds = np.cumsum(fractions)[:-1]
    return int(np.searchsorted(bounds, group_place(group, seed), side="right"))
