"""Facts of one LoRA: shapes, ranks, scales, norms and spectra of every layer, and what came beside them.

Facts are what the numbers say; whether that is good or bad is for problems.py. The spectrum of u v^T
comes from r x r matrices, for all layers of one shape at once: with G_u = u^T u and G_v = v^T v in float64
and G_u = L L^T, the squared singular values are the eigenvalues of L^T G_v L. That squares the condition
number, which float64 affords: values down to 1e-7 of the largest are right, and below that all are "dead".

    u: (l, n, r)    v: (l, m, r)    spectra: (l, min(n, m, r))
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorascope.core.lora import LoRA, Scale
from lorascope.core.low_rank import LowRank
from lorascope.inspect.names import block_of, kind_of, place_of

__all__ = ["BlockFacts", "Facts", "KindFacts", "LayerFacts", "SideFacts", "facts_of"]

DEAD = 1e-4  # a singular value below this share of the layer's largest carries under 1e-8 of its energy
CHUNK_BYTES = 1 << 26  # float64 copies of the factors are made in pieces of this size


@dataclass(frozen=True)
class LayerFacts:
    """Facts of one layer.

    Args:
        scale: what the file said about the scale, None if it came without.
        finite: no NaN or Inf in the factors or their product; norm and spectrum are None without it.
        norm: Frobenius norm of the update.
        spectrum: its singular values, descending.
        effective_rank: exp of the entropy of the normalised singular values.
        dead_ranks: how many of the r columns add nothing (singular values under 1e-4 of the largest).
    """

    name: str
    n: int
    m: int
    rank: int
    dtype: str
    kernel: tuple[int, ...] = ()
    scale: Scale | None = None
    finite: bool = True
    norm: float | None = None
    spectrum: tuple[float, ...] | None = None
    effective_rank: float | None = None
    dead_ranks: int = 0

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
    """Facts of a whole LoRA, in the file's order of layers."""

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

    @property
    def norm(self) -> float | None:
        """Frobenius norm over all layers, None if a layer is not finite."""
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


def facts_of(lora: LoRA) -> Facts:
    """Collect the facts of a LoRA, all layers of one shape at once.

    Example:
        >>> facts_of(LoRA({"q": LowRank(torch.eye(4)[:, :2], torch.eye(6)[:, :2])})).layers[0].rank
        2
    """
    origin = lora.provenance
    measured: dict[str, LayerFacts] = {}
    for names in shape_groups(lora):
        measured.update(layer_facts(lora, names))
    return Facts(
        source=origin.source,
        format=origin.format,
        writer=origin.writer,
        base=origin.base,
        parameters=lora.parameter_count,
        nbytes=lora.nbytes,
        layers=tuple(measured[name] for name in lora.layers),
        side=tuple(side_facts(lora)),
        ambiguities=origin.ambiguities,
        notes=origin.notes,
        config=origin.config,
    )


def shape_groups(lora: LoRA) -> Iterator[list[str]]:
    """Names of layers that can be stacked, in pieces that bound the memory of their float64 copies."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, pair in lora.layers.items():
        groups.setdefault((pair.shape, pair.rank, pair.dtype, pair.device), []).append(name)
    for names in groups.values():
        pair = lora.layers[names[0]]
        size = 8 * (pair.n + pair.m + 4 * pair.rank) * max(pair.rank, 1)
        step = max(1, CHUNK_BYTES // max(size, 1))
        for start in range(0, len(names), step):
            yield names[start : start + step]


def layer_facts(lora: LoRA, names: list[str]) -> dict[str, LayerFacts]:
    """Facts of layers that share one shape, rank and type."""
    pairs = [lora.layers[name] for name in names]
    spectra, finite = stacked_spectra(pairs)
    norms = spectra.square().sum(dim=1).sqrt()
    shares = spectra / spectra.sum(dim=1, keepdim=True)
    effective = torch.special.entr(shares.nan_to_num(0)).sum(dim=1).exp() * (norms > 0)
    found: dict[str, LayerFacts] = {}
    for place, (name, pair) in enumerate(zip(names, pairs, strict=True)):
        row = spectra[place]
        alive = int((row > DEAD * row[0]).sum()) if row.numel() else 0
        good = bool(finite[place])
        found[name] = LayerFacts(
            name=name,
            n=pair.n,
            m=pair.m,
            rank=pair.rank,
            dtype=dtype_name(pair.dtype),
            kernel=pair.kernel,
            scale=lora.provenance.scales.get(name),
            finite=good,
            norm=float(norms[place]) if good else None,
            spectrum=tuple(row.tolist()) if good else None,
            effective_rank=float(effective[place]) if good else None,
            dead_ranks=pair.rank - alive if good else 0,
        )
    return found


def stacked_spectra(pairs: list[LowRank]) -> tuple[Tensor, Tensor]:  # (l, min(n, m, r)), (l,)
    """Singular values, descending, and whether they are finite numbers; zeros where they are not."""
    u = torch.stack([pair.u for pair in pairs]).double()  # (l, n, r)
    v = torch.stack([pair.v for pair in pairs]).double()  # (l, m, r)
    # balance the columns first: a gauge that puts all size into one factor costs no precision then
    size = u.norm(dim=1)  # (l, r)
    u = u * torch.where(size > 0, 1 / size, 0.0)[:, None, :]
    v = v * size[:, None, :]
    gram_u, gram_v = u.mT @ u, v.mT @ v  # (l, r, r)
    finite = gram_u.isfinite().all(2).all(1) & gram_v.isfinite().all(2).all(1)
    gram_u = torch.where(finite[:, None, None], gram_u, 0.0)
    gram_v = torch.where(finite[:, None, None], gram_v, 0.0)
    values, vectors = torch.linalg.eigh(gram_u)
    root = vectors * values.clamp(min=0).sqrt()[:, None, :]  # gram_u = root root^T
    squares = torch.linalg.eigvalsh(root.mT @ gram_v @ root).clamp(min=0)
    keep = min(pairs[0].n, pairs[0].m, pairs[0].rank)
    return squares.flip(1)[:, :keep].sqrt(), finite


def side_facts(lora: LoRA) -> Iterator[SideFacts]:
    """Facts of the side tensors, in the file's order."""
    for name, side in lora.side.items():
        tensor = side.tensor
        finite = bool(tensor.isfinite().all()) if tensor.is_floating_point() else True
        yield SideFacts(name, side.kind, tuple(tensor.shape), dtype_name(tensor.dtype), finite)


def total_norm(layers: Iterable[LayerFacts]) -> float | None:
    """Frobenius norm over layers, None if one of them is not finite."""
    norms = [layer.norm for layer in layers]
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if len(known) == len(norms) else None


def dtype_name(dtype: torch.dtype) -> str:
    """The type without its module: "float32"."""
    return str(dtype).removeprefix("torch.")
