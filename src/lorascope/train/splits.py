"""Splits that never leak: rows that share a group are trained on or tested on, never both.

The fold of a group depends on its name and the seed alone (`io/folds.py`). Random row splits exist for
collections without groups, and only under their own name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorascope.errors import DataError
from lorascope.io.folds import FRACTIONS, fold_of

Rows = NDArray[np.int64]
Fractions = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the three parts, each ascending and disjoint from the others."""

    train: Rows
    validation: Rows
    test: Rows

    def among(self, rows: Rows) -> "Split":
        """The split with only the given rows left."""
        return Split(*(part[np.isin(part, rows)] for part in self.parts()))

    def parts(self) -> tuple[Rows, Rows, Rows]:
        """Train, validation and test rows."""
        return self.train, self.validation, self.test

    def check(self) -> "Split":
        """The split itself; raises DataError where a part is empty or two parts share a row."""
        for name, part in zip(("train", "validation", "test"), self.parts(), strict=True):
            if len(part) == 0:
                raise DataError(
                    f"Splitting the rows: the {name} part is empty (sizes "
                    f"{[len(p) for p in self.parts()]}). A split by group needs many groups: label "
                    "more LoRAs, give another seed, or group by something finer."
                )
        rows = np.concatenate(self.parts())
        if len(np.unique(rows)) != len(rows):
            raise DataError("Splitting the rows: two parts share rows. Each row has one part.")
        return self


def group_split(groups: Sequence[object], fractions: Fractions = FRACTIONS, seed: int = 0) -> Split:
    """A split by the hash of each row's group; the seed is the salt of the hash.

    Raises DataError when the fractions are not three positive numbers that sum to 1.

    >>> split = group_split(["anna", "anna", "bert"], seed=3)
    >>> sum(len({0, 1} & set(part.tolist())) == 2 for part in split.parts())
    1
    """
    _bounds(fractions)
    return _split(np.array([fold_of(str(group), fractions, seed) for group in groups], np.int64))


def row_split(count: int, fractions: Fractions = FRACTIONS, seed: int = 0) -> Split:
    """A random split of rows that share nothing; leaks wherever they do, so never the default.

    Raises DataError when the fractions are not three positive numbers that sum to 1.
    """
    bounds = _bounds(fractions)
    order = np.random.default_rng(seed).permutation(count)
    folds = np.empty(count, dtype=np.int64)
    folds[order] = np.searchsorted(bounds, (np.arange(count) + 0.5) / max(count, 1), side="right")
    return _split(folds)


def _bounds(fractions: Fractions) -> NDArray[np.float64]:
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1.0) > 1e-9:
        raise DataError(
            f"Splitting the rows: found the fractions {tuple(fractions)}, expected three positive "
            "numbers that sum to 1."
        )
    return np.cumsum(fractions)[:2]


def _split(folds: NDArray[np.int64]) -> Split:
    return Split(*(np.flatnonzero(folds == fold).astype(np.int64) for fold in range(3)))
