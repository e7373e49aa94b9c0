"""Intervals that hold: split conformal prediction with groups, and how well they did.

    value +- q,   q = smallest t with  sum over groups g of mean_{i in g} [|y_i - f_i| <= t] >= level (G + 1)

over the G groups of LoRAs that were held out, none of which the model saw. Each group counts once, so that
LoRAs that share data do not pass for many; with one LoRA a group it is split conformal prediction
(Papadopoulos et al. 2002; Lei et al. 2018; groups as in Dunn, Wasserman and Ramdas 2022). A new LoRA of a
new group is covered
with probability at least `level`. It says nothing of LoRAs that are not like the held-out ones: that is what
abstention is for.

The same rule on 1 - p gives sets of classes. What it is not: a model; it knows residuals only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorascope.errors import DataError

__all__ = ["Coverage", "Interval", "coverage", "fit_interval", "grouped_quantile"]

Array = NDArray[np.float64]
LEVEL = 0.9
REPARTITIONS = 50


@dataclass(frozen=True)
class Interval:
    """How far from a value the label lies at most, in the units of the label, with probability `level`.

    `half` is that distance (of classes: how improbable a class of the set may be), taken from `groups` groups.

    Example:
        >>> Interval(half=0.5, groups=99).around(2.0)
        (1.5, 2.5)
    """

    half: float
    groups: int
    level: float = LEVEL

    def __post_init__(self) -> None:
        if not (self.half >= 0 and 0 < self.level < 1):
            raise DataError(
                f"An interval with half width {self.half} and level {self.level}: expected a width of at least "
                "0 and a level between 0 and 1."
            )

    def around(self, value: float) -> tuple[float, float]:
        """The interval of a value."""
        return value - self.half, value + self.half

    def classes(self, probabilities: Mapping[str, float]) -> tuple[str, ...]:
        """The classes of a set that holds the true one with probability `level`, the most probable first."""
        ordered = sorted(probabilities, key=lambda name: -probabilities[name])
        kept = [name for name in ordered if 1 - probabilities[name] <= self.half]
        return tuple(kept or ordered[:1])

    def to_json(self) -> dict[str, float]:
        """Plain data, the inverse of `from_json`."""
        return {"half": self.half, "groups": self.groups, "level": self.level}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Interval":
        """An interval from plain data."""
        return cls(float(data["half"]), int(data["groups"]), float(data["level"]))


def fit_interval(
    errors: Array,  # (b,) absolute errors on held-out LoRAs
    groups: Sequence[object] | None = None,
    level: float = LEVEL,
) -> Interval | None:
    """The interval of held-out errors; None where there are too few groups for the level (9 for 0.9).

    Raises DataError where the lengths differ or an error is not finite.
    """
    errors = np.abs(np.asarray(errors, dtype=np.float64))
    if not np.isfinite(errors).all():
        raise DataError("Fitting an interval: a held-out error is not finite.")
    names = _names(len(errors), groups)
    half = grouped_quantile(errors, names, level)
    return Interval(half, len(set(names)), level) if math.isfinite(half) else None


def grouped_quantile(errors: Array, groups: Sequence[object], level: float) -> float:
    """The quantile of a new group's error, at least as large as `level` asks; infinity for too few groups."""
    if len(errors) == 0:
        return math.inf
    _, number, sizes = np.unique(
        np.array([str(group) for group in groups]), return_inverse=True, return_counts=True
    )
    order = np.argsort(errors, kind="stable")
    mass = np.cumsum(1.0 / sizes[number[order]])
    place = int(np.searchsorted(mass, level * (len(sizes) + 1) - 1e-9))
    return float(errors[order[place]]) if place < len(errors) else math.inf


@dataclass(frozen=True)
class Coverage:
    """Of many divisions of held-out LoRAs into calibration and test: the share of labels inside."""

    mean: float
    std: float
    lowest: float
    highest: float
    half: float  # mean half width
    repetitions: int

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return dict(vars(self))


def coverage(
    errors: Array,  # (b,)
    groups: Sequence[object] | None = None,
    *,
    level: float = LEVEL,
    repetitions: int = REPARTITIONS,
    seed: int = 0,
) -> Coverage:
    """How often intervals hold: half of the groups, drawn anew each time, calibrate and the others are tested.

    Raises DataError for fewer than 20 groups, with which half of them cannot calibrate.

    Example:
        >>> errors = np.random.default_rng(0).exponential(size=400)
        >>> 0.88 < coverage(errors).mean < 0.92
        True
    """
    errors = np.abs(np.asarray(errors, dtype=np.float64))
    names = np.array(_names(len(errors), groups))
    unique = np.unique(names)
    if len(unique) < 20:
        raise DataError(
            f"Measuring coverage: found {len(unique)} groups, expected at least 20. Try more held-out LoRAs."
        )
    rng = np.random.default_rng(seed)
    shares, halves = [], []
    for _ in range(repetitions):
        chosen = np.isin(names, rng.permutation(unique)[: len(unique) // 2])
        half = grouped_quantile(errors[chosen], names[chosen].tolist(), level)
        shares.append(float((errors[~chosen] <= half).mean()))
        halves.append(half)
    return Coverage(
        float(np.mean(shares)),
        float(np.std(shares)),
        min(shares),
        max(shares),
        float(np.mean(halves)),
        repetitions,
    )


def _names(count: int, groups: Sequence[object] | None) -> list[str]:
    if groups is None:
        return [str(row) for row in range(count)]
    if len(groups) != count:
        raise DataError(
            f"Fitting an interval: found {len(groups)} groups for {count} errors, expected one for each."
        )
    return [str(group) for group in groups]
