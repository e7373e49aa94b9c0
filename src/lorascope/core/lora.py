"""`LoRA`: the adapter as a value. An ordered map from layer name to its update, with what came beside it.

An update is a factor pair, or keeps the native factors of LoKr and LoHa (`Update`); `to_low_rank()` makes
pairs of all. Layers that a LoRA does not adapt are absent. `side` holds tensors that are no update (biases,
DoRA magnitudes, replaced modules, ...); `provenance` says where it came from, which scale was folded in, and
what the file could not tell. Algebra on LoRAs is algebra on their layers; nothing here reads a file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lorascope.core.low_rank import LowRank
from lorascope.core.signature import LayerShape, Signature
from lorascope.core.update import Update
from lorascope.errors import LayerError

__all__ = ["LoRA", "Provenance", "Scale", "Side", "TruncatedLoRA"]


@dataclass(frozen=True)
class Scale:
    """The scale of one layer as the file gave it.

    Args:
        alpha: the raw alpha, None if the file has none.
        rank: the raw rank that the rule divided by.
        factor: what was multiplied into u.
        rule: how factor came from alpha and rank, such as "alpha/r".
    """

    alpha: float | None
    rank: int
    factor: float
    rule: str


@dataclass(frozen=True, eq=False)
class Side:
    """A tensor that is no factor pair, with its kind ("bias", "dora_magnitude", "full", ...)."""

    kind: str
    tensor: Tensor


@dataclass(frozen=True)
class Provenance:
    """Where a LoRA came from and what is not certain about it.

    Args:
        format: the file format, "memory" for one made by a program.
        source: path or name of what was read.
        base: identity of the base model, None if unknown.
        writer: the program that wrote the file, None if unknown.
        scales: the raw scale of each layer.
        ambiguities: sentences about what the file cannot tell, each starting with a code and a colon.
        notes: facts to report that are no ambiguity, in the same form.
        config: the configuration beside the weights, as plain data.
        kinds: what a layer is where it is no plain matrix of weights ("embedding", "expert").
        left: sentences about what the file alone cannot turn into an update, and why, in the same form.
    """

    format: str = "memory"
    source: str = ""
    base: str | None = None
    writer: str | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    ambiguities: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def outcome(self) -> Literal["exact", "ambiguous", "part"]:
        """How much of a file was read: all of it exactly, with named ambiguities, or in part (see `left`)."""
        return "part" if self.left else "ambiguous" if self.ambiguities else "exact"


@dataclass(frozen=True, eq=False)
class LoRA:
    """An immutable, ordered map from layer name to `Update`, with side tensors and provenance.

    The mapping is read-only; the tensors in it are shared, not copied, and must not be written to.

    Example:
        >>> pair = LowRank(torch.ones(3, 1), torch.ones(4, 1))
        >>> lora = LoRA({"model.layers.0.self_attn.q_proj": pair})
        >>> len(lora), lora.parameter_count, float((lora + lora).norm() / lora.norm())
        (1, 7, 2.0)
    """

    layers: Mapping[str, Update]
    side: Mapping[str, Side] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "side", MappingProxyType(dict(self.side)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy does not travel between processes; a dict does
        return (LoRA, (dict(self.layers), dict(self.side), self.provenance))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __getitem__(self, layer: str) -> Update:
        try:
            return self.layers[layer]
        except KeyError:
            first = next(iter(self.layers), None)
            raise LayerError(
                f"Looking up layer {layer!r} of a LoRA: it has {len(self)} layers, none of that name "
                f"(the first is {first!r})."
            ) from None

    @property
    def max_rank(self) -> int:
        """The largest rank of its layers, 0 if it has none."""
        return max((pair.rank for pair in self.layers.values()), default=0)

    @property
    def parameter_count(self) -> int:
        """Number of values in the factors, side tensors left out."""
        return sum(update.parameter_count for update in self.layers.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the factors and the side tensors."""
        factors = sum(pair.nbytes for pair in self.layers.values())
        return factors + sum(side.tensor.nbytes for side in self.side.values())

    def signature(self) -> Signature:
        """Names and sizes of its layers and its base."""
        shapes = tuple(LayerShape(name, pair.n, pair.m) for name, pair in self.layers.items())
        return Signature(shapes, self.provenance.base)

    def norms(self) -> dict[str, Tensor]:
        """Frobenius norm of each layer's update."""
        return {name: pair.norm() for name, pair in self.layers.items()}

    def norm(self) -> Tensor:
        """Frobenius norm over all layers, 0-d."""
        return self.inner(self).clamp(min=0).sqrt()

    def inner(self, other: "LoRA") -> Tensor:
        """Sum over layers of the inner products of the updates, 0-d; a layer that one lacks counts 0."""
        traces = [
            pair.trace(other.layers[name])
            for name, pair in self.layers.items()
            if name in other.layers
        ]
        if not traces:
            return torch.zeros(())
        double = any(pair.dtype == torch.float64 for pair in self.layers.values())
        return torch.stack(traces).sum().to(torch.float64 if double else torch.float32)

    def cosine(self, other: "LoRA") -> Tensor:
        """Cosine of the angle between the two LoRAs over all layers, 0-d; 0 if either is zero."""
        scale = self.norm() * other.norm()
        return torch.where(scale > 0, self.inner(other) / scale, torch.zeros_like(scale))

    def singular_values(self) -> dict[str, Tensor]:
        """Singular values of each layer's update, descending."""
        return {name: pair.singular_values() for name, pair in self.layers.items()}

    def truncate(self, rank: int) -> "TruncatedLoRA":
        """Each layer at the rank; with the kept energy over all layers."""
        pieces = {name: pair.truncate(rank) for name, pair in self.layers.items()}
        energy = {name: float(pair.norm()) ** 2 for name, pair in self.layers.items()}
        total = sum(energy.values())
        kept = sum(energy[name] * piece.kept_energy for name, piece in pieces.items())
        return TruncatedLoRA(
            self._with({name: piece.pair for name, piece in pieces.items()}),
            kept / total if total > 0 else 1.0,
        )

    def map(self, function: Callable[[LowRank], LowRank]) -> "LoRA":
        """The LoRA with a function applied to each factor pair, native layers made pairs first."""
        return self._with({n: function(x.to_low_rank()) for n, x in self.layers.items()})

    def to_low_rank(self) -> "LoRA":
        """The LoRA with every layer as a factor pair, exactly; one of pairs only is itself.

        Raises LayerError, naming the layer, where a pair would not fit into memory.
        """
        if all(isinstance(update, LowRank) for update in self.layers.values()):
            return self
        return self._with({name: self.pair(name) for name in self.layers})

    def pair(self, layer: str) -> LowRank:
        """One layer as a factor pair, exactly. Raises LayerError if there is none or it would not fit."""
        update = self[layer]
        try:
            return update.to_low_rank()
        except LayerError as error:
            raise LayerError(f"Making a factor pair of layer {layer!r}: {error}") from error

    def select(self, names: Iterable[str]) -> "LoRA":
        """The LoRA with only the named layers, in that order. Raises LayerError for a name it lacks."""
        return self._with({name: self[name] for name in names})

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "LoRA":
        """The LoRA with its factors in another type or, with its side tensors, on another device."""
        side = {
            name: replace(s, tensor=s.tensor.to(device=device)) for name, s in self.side.items()
        }
        layers = {name: update.to(dtype, device) for name, update in self.layers.items()}
        return replace(self._with(layers), side=side)

    def __add__(self, other: "LoRA") -> "LoRA":
        """The sum of two LoRAs: ranks add up; a layer that one lacks is taken from the other.

        Raises LayerError when either holds side tensors, whose sum is not defined.
        """
        if self.side or other.side:
            raise LayerError(
                "Adding two LoRAs: side tensors "
                f"{sorted({*self.side, *other.side})[:3]} have no sum. Try: replace(lora, side={{}})."
            )
        layers: dict[str, Update] = dict(self.layers)
        for name, pair in other.layers.items():
            layers[name] = layers[name] + pair if name in layers else pair
        base = self.provenance.base if self.provenance.base == other.provenance.base else None
        return LoRA(layers, {}, Provenance(base=base))

    def __mul__(self, factor: float) -> "LoRA":
        """The LoRA with every update times a number."""
        return self._with({name: update * factor for name, update in self.layers.items()})

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"LoRA({len(self)} layers, rank <= {self.max_rank}, {len(self.side)} side tensors)"

    def _with(self, layers: Mapping[str, Update]) -> "LoRA":
        # the raw scales belong to the factors that were read: keep only those whose pair is untouched
        scales = {
            name: scale
            for name, scale in self.provenance.scales.items()
            if name in layers and layers[name].rank == self.layers[name].rank
        }
        return LoRA(layers, self.side, replace(self.provenance, scales=scales))


class TruncatedLoRA(NamedTuple):
    """A truncated LoRA and the share of its squared norm that it keeps."""

    lora: LoRA
    kept_energy: float
