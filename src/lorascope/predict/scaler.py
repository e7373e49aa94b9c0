"""The scaler of a regression target: y = (value - mean) / std, and its inverse.

It lives here and not in `train`, because a predictor must undo it without any training code.
Classes are never scaled: their scaler is the identity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorascope.errors import DataError


@dataclass(frozen=True)
class Scaler:
    """An affine map between the units of a label and the standardised values of a model.

    >>> Scaler(mean=10.0, std=2.0).undo(np.array([1.0])).tolist()
    [12.0]
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise DataError(
                f"A scaler with mean {self.mean} and standard deviation {self.std}: expected "
                "finite numbers and a positive deviation."
            )

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Scaler":
        """The scaler that gives `values` mean 0 and deviation 1 (1 where they are all equal)."""
        std = float(np.std(values))
        # Rounding leaves a deviation near eps * |mean| on equal values: that is no scale.
        constant = std <= 1e-12 * max(1.0, float(np.abs(values).max(initial=0.0)))
        return cls(mean=float(np.mean(values)), std=1.0 if constant else std)

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standardised values of values in the units of the label."""
        return (values - self.mean) / self.std

    def undo(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in the units of the label of standardised values."""
        return values * self.std + self.mean

    def to_json(self) -> dict[str, float]:
        """Plain data, the inverse of `from_json`."""
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scaler":
        """A scaler from plain data."""
        return cls(mean=float(data["mean"]), std=float(data["std"]))
