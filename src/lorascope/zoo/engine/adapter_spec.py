"""`AdapterSpec`: the shape of an adapter; all of a zoo may have one, or each its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from lorascope.errors import DataError

__all__ = ["AdapterSpec", "specs_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class AdapterSpec:
    """The shape of an adapter, in PEFT's words.

    `targets` are suffixes of module names (`"q_proj"`). The update of a layer is
    `factor * B @ A` with factor alpha/rank, or alpha/sqrt(rank) for rsLoRA. `rank_pattern` and
    `alpha_pattern` hold other ranks and alphas of the layers whose names end in a key; the first
    key that fits counts. With `dora` each layer has a magnitude, which is trained with it:

        W' = magnitude * (W + factor * B @ A) / |W + factor * B @ A|, row by row

    Example:
        >>> spec = AdapterSpec(("q_proj", "v_proj"), rank=4, alpha=8, rank_pattern={"v_proj": 2})
        >>> spec.rank_of("layers.0.v_proj"), spec.factor_of("layers.0.v_proj"), spec.factor
        (2, 4.0, 2.0)
    """

    targets: tuple[str, ...]
    rank: int
    alpha: float
    rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    dora: bool = False

    def __post_init__(self) -> None:
        if not self.targets or min((self.rank, *self.rank_pattern.values())) < 1:
            raise DataError(
                f"describing the adapters of a zoo: found targets {self.targets}, rank {self.rank} "
                f"and rank_pattern {dict(self.rank_pattern)}, expected at least one target and "
                "ranks of 1 or more. Try targets=('q_proj',)"
            )

    @property
    def factor(self) -> float:
        """The number that multiplies B @ A where no pattern says otherwise."""
        return self._factor(self.rank, self.alpha)

    def rank_of(self, layer: str) -> int:
        """The rank of a layer."""
        return _first(self.rank_pattern, layer, self.rank)

    def alpha_of(self, layer: str) -> float:
        """The alpha of a layer."""
        return _first(self.alpha_pattern, layer, self.alpha)

    def factor_of(self, layer: str) -> float:
        """The number that multiplies B @ A of a layer."""
        return self._factor(self.rank_of(layer), self.alpha_of(layer))

    def plain(self) -> dict[str, Any]:
        """As plain data for recipes: patterns and DoRA only where there are any."""
        fields = asdict(self)
        later = ("rank_pattern", "alpha_pattern", "dora")
        return {name: value for name, value in fields.items() if value or name not in later}

    def changed(self, fields: Mapping[str, Any]) -> "AdapterSpec":
        """The spec with other fields, as plain data; a rank without its alpha keeps the factor.

        Example:
            >>> AdapterSpec(("q_proj",), rank=4, alpha=8).changed({"rank": 2}).alpha
            4.0
        """
        chosen = {**self.plain(), "alpha": None, **fields}
        if chosen["alpha"] is None:
            alone = replace(self, rank=chosen["rank"], rslora=chosen["rslora"], alpha=1)
            chosen["alpha"] = self.factor / alone.factor
        return AdapterSpec(**{**chosen, "targets": tuple(chosen["targets"])})

    def _factor(self, rank: int, alpha: float) -> float:
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def specs_of(specs: AdapterSpec | Sequence[AdapterSpec], count: int) -> tuple[AdapterSpec, ...]:
    """One spec for each of so many adapters: the same for all, or each its own.

    Raises:
        DataError: there are more or fewer specs than adapters.
    """
    if isinstance(specs, AdapterSpec):
        return (specs,) * count
    if len(specs) != count:
        raise DataError(
            f"finetuning {count} adapters: found {len(specs)} specs, expected one, or one for each"
        )
    return tuple(specs)


def _first(pattern: Mapping[str, T], layer: str, otherwise: T) -> T:
    """The value of the first key that a layer's name ends in, at the border of a part."""
    for key, value in pattern.items():
        if layer == key or layer.endswith(f".{key}"):
            return value
    return otherwise
