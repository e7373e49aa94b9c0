"""Facts of one LoRA as values: shapes, ranks, scales, norms and spectra by layer, and what came beside.

Facts are what the numbers say; whether that is good or bad is for problems.py. They are measured in
measure.py, or taken from a header alone in headers.py, and then norms and spectra are None. Standard library
only.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorascope.inspect.families import UNKNOWN, Family
from lorascope.inspect.names import block_of, kind_of, place_of
from lorascope.inspect.training import UNTOLD, Training

if TYPE_CHECKING:
    from lorascope.core.lora import Scale

__all__ = ["BlockFacts", "Facts", "KindFacts", "LayerFacts", "SideFacts"]


@dataclass(frozen=True)
class LayerFacts:
    """Facts of one layer.

    Args:
        scale: what the file said about the scale, None if it came without.
        n, m: 0 where a header does not tell.
        finite: no NaN or Inf in the factors or their product; norm and spectrum are None without it.
        norm: Frobenius norm of the update.
        spectrum: its largest 1024 singular values, descending; None also where they cost too much to take.
        effective_rank: exp of the entropy of the normalised singular values.
        dead_ranks: how many of the r columns add nothing (singular values under 1e-4 of the largest).
        blank: every value of every factor is zero, not only those of one side.
    """

    name: str
    n: int
    m: int
    rank: int
    dtype: str
    kernel: tuple[int, ...] = ()
    scale: "Scale | None" = None
    finite: bool = True
    norm: float | None = None
    spectrum: tuple[float, ...] | None = None
    effective_rank: float | None = None
    dead_ranks: int = 0
    blank: bool = False

    @property
    def rms(self) -> float | None:
        """Root mean square of the entries of the update: the norm freed of the layer's size."""
        size = self.n * self.m
        return None if self.norm is None else self.norm / math.sqrt(size) if size else 0.0


@dataclass(frozen=True)
class SideFacts:
    """One tensor that is no factor pair."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    finite: bool


@dataclass(frozen=True)
class KindFacts:
    """The layers whose names differ only in numbers, and which share n, m and kernel."""

    kind: str
    layers: tuple[LayerFacts, ...]


@dataclass(frozen=True)
class BlockFacts:
    """The layers of one block of the base model; norm is taken over all of them, None if one is not finite."""

    block: str
    layers: tuple[LayerFacts, ...]

    @property
    def norm(self) -> float | None:
        """Frobenius norm over the block's layers."""
        return total_norm(self.layers)


@dataclass(frozen=True)
class Facts:
    """Facts of a whole LoRA, in the file's order of layers.

    Args:
        left: what the file alone cannot turn into an update, and why.
        family: the base by names and shapes; `base` is the name that the file gives it.
        training: what metadata or configuration say about the training.
        measured: values were looked at; without it, norms and spectra are None.
    """

    source: str
    format: str
    writer: str | None
    base: str | None
    parameters: int
    nbytes: int
    layers: tuple[LayerFacts, ...]
    side: tuple[SideFacts, ...] = ()
    ambiguities: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    family: Family = UNKNOWN
    training: Training = UNTOLD
    measured: bool = True

    @property
    def norm(self) -> float | None:
        """Frobenius norm over all layers, None if a layer is not finite or was not measured."""
        return total_norm(self.layers)

    def kinds(self) -> tuple[KindFacts, ...]:
        """Layers gathered by kind and shape, in order of first appearance."""
        found: dict[tuple[object, ...], list[LayerFacts]] = {}
        for layer in self.layers:
            key = (kind_of(layer.name), layer.n, layer.m, layer.kernel)
            found.setdefault(key, []).append(layer)
        return tuple(KindFacts(str(key[0]), tuple(layers)) for key, layers in found.items())

    def blocks(self) -> tuple[BlockFacts, ...]:
        """Layers gathered by block, in counting order."""
        found: dict[str, list[LayerFacts]] = {}
        for layer in self.layers:
            found.setdefault(block_of(layer.name), []).append(layer)
        ordered = sorted(found.items(), key=lambda item: place_of(item[0]))
        return tuple(BlockFacts(block, tuple(layers)) for block, layers in ordered)


def total_norm(layers: Iterable[LayerFacts]) -> float | None:
    """Frobenius norm over layers, None if one of them is not finite."""
    norms = [layer.norm for layer in layers]
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if len(known) == len(norms) else None
