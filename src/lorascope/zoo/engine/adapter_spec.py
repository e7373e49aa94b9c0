"""`AdapterSpec`: the shape of every adapter of one zoo."""

import math
from dataclasses import dataclass

from lorascope.errors import DataError

__all__ = ["AdapterSpec"]


@dataclass(frozen=True)
class AdapterSpec:
    """The shape of every adapter of one zoo, in PEFT's words.

    `targets` are suffixes of module names (`"q_proj"`). The update of a layer is
    `factor * B @ A` with factor alpha/rank, or alpha/sqrt(rank) for rsLoRA.
    """

    targets: tuple[str, ...]
    rank: int
    alpha: float
    rslora: bool = False

    def __post_init__(self) -> None:
        if not self.targets or self.rank < 1:
            raise DataError(
                f"describing the adapters of a zoo: found targets {self.targets} and rank "
                f"{self.rank}, expected at least one target and rank 1. Try targets=('q_proj',)"
            )

    @property
    def factor(self) -> float:
        """The number that multiplies B @ A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
