"""A file of named modules -> `LoRA`, for every dialect whose keys are MODULE.ENDING.

    tensors --group_keys--> modules by slot --build_module--> pair, side --Namer--> layers of the base model

Every tensor ends up in a layer, in its scale, in `side`, or in an error; `Provenance.left` names what is kept
beside because the file alone cannot make an update of it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorascope.core import Kronecker, LoRA, Provenance, Scale, Side, Update
from lorascope.errors import FormatError
from lorascope.io.dialects.key import Keyed, group_keys
from lorascope.io.finish import natural, nonfinite_note
from lorascope.io.layout import is_block_sparse, is_splittable, split, turn
from lorascope.io.modules import Built, Parts, build_module
from lorascope.io.names import Namer, Place
from lorascope.io.room import Room

__all__ = ["Assembly", "ScaleRule", "assemble"]

# (layer's name, rank) -> the scale that stands in the metadata instead of in the tensors, None if none does.
ScaleRule = Callable[[str, int], Scale | None]
KEPT_FUSED = (
    "fused projections are Kronecker products whose blocks straddle the parts; they keep the fused name "
    "(lorascope.io.layout.split makes pairs of the parts)"
)
BY_ROWS = ("lora_bias", "diff", "diff_bias", "full", "norm")


@dataclass
class Assembly:
    """What is gathered while a file is read."""

    where: str
    format: str
    layers: dict[str, Update] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    side: dict[str, Side] = field(default_factory=dict)
    ambiguities: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    sparse: list[str] = field(default_factory=list)
    factors: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add_layer(self, name: str, pair: Update, scale: Scale | None, kind: str | None) -> None:
        """Take in a layer. Raises FormatError if two modules of the file are the same layer."""
        if name in self.layers:
            raise FormatError(f"Reading {self.where!r}: two of its keys name the layer {name!r}.")
        self.layers[name] = pair
        if scale is not None:
            self.scales[name] = scale
        if kind is not None:
            self.kinds[name] = kind

    def add_side(self, name: str, side: Side) -> None:
        """Take in a side tensor. Raises FormatError if the name is taken."""
        if name in self.side:
            raise FormatError(f"Reading {self.where!r}: two of its keys name the tensor {name!r}.")
        self.side[name] = side

    def add_module(self, place: Place, built: Built) -> None:
        """Take in what a module was read as, under the names of its place."""
        for code, sentence in built.notes.items():
            self.facts.setdefault(code, sentence)
            self.counts[code] += 1
        for code, sentence in built.doubts.items():
            self.doubts.setdefault(code, sentence)
            self.counts[code] += 1
        for code, sentence in built.left.items():
            self.lacking.setdefault(code, sentence)
            self.counts[code] += 1
        if len(place.names) == 1 and not place.swap:
            name = place.names[0]
            if built.pair is not None:
                self.add_layer(name, built.pair, built.scale, built.kind)
            for ending, side in built.side.items():
                self.add_side(f"{name}.{ending}", side)
            return
        self._add_fused(place, built)

    def lora(self, metadata: Mapping[str, str], base: str | None, writer: str | None) -> LoRA:
        """The LoRA. Raises FormatError if nothing of the file could be read."""
        if not self.layers and not self.side:
            raise FormatError(f"Reading {self.where!r} as {self.format}: it holds no tensors.")
        order = sorted(self.layers, key=natural)
        layers = {name: self.layers[name] for name in order}
        side = {name: self.side[name] for name in sorted(self.side, key=natural)}
        self._conclude()
        self.notes.extend(nonfinite_note(layers, side))
        provenance = Provenance(
            format=self.format,
            source=self.where,
            base=base,
            writer=writer,
            scales={name: self.scales[name] for name in order if name in self.scales},
            ambiguities=tuple(self.ambiguities),
            notes=tuple(self.notes),
            config=dict(metadata),
            kinds={name: self.kinds[name] for name in order if name in self.kinds},
            left=tuple(self.left),
        )
        return LoRA(layers, side, provenance)

    def _conclude(self) -> None:
        for code, sentence in self.facts.items():
            self.notes.append(f"{code}: {self.counts[code]} modules: {sentence}")
        for code, sentence in self.doubts.items():
            self.ambiguities.append(f"{code}: {self.counts[code]} modules: {sentence}")
        for code, sentence in self.lacking.items():
            self.left.append(f"{code}: {self.counts[code]} modules: {sentence}")
        kinds = Counter(side.kind for side in self.side.values())
        first = {side.kind: name for name, side in reversed(self.side.items())}
        for kind, count in kinds.items():
            self.notes.append(
                f"side: {count} tensors of kind {kind!r}, the first is {first[kind]!r}"
            )

    def _add_fused(self, place: Place, built: Built) -> None:
        if place.swap:
            self.add_module(Place(place.names), _swapped(built))
            return
        sizes = _sizes(place, built)
        if sizes is None:
            name = place.fused or place.names[0]
            if isinstance(built.pair, Kronecker):
                self.facts.setdefault("fused", KEPT_FUSED)
                self.counts["fused"] += 1
            self.add_module(Place((name,)), _without_remarks(built))
            return
        if built.pair is not None:
            if is_block_sparse(built.pair, sizes):
                self.sparse.append(place.fused)
                self.factors[place.fused] = built.scale.factor if built.scale else 1.0
            for name, pair in zip(place.names, split(built.pair, sizes), strict=True):
                self.add_layer(name, pair, built.scale, built.kind)
        for ending, side in built.side.items():
            for name, rows in zip(place.names, torch.split(side.tensor, list(sizes)), strict=True):
                self.add_side(f"{name}.{ending}", Side(side.kind, rows))


def assemble(
    tensors: Mapping[str, Tensor], where: str, format: str, scale_of: ScaleRule | None = None
) -> Assembly:
    """Read all modules of a file.

    Args:
        tensors: all tensors by key.
        where: the file, for messages and provenance.
        format: name of the dialect.
        scale_of: scales that stand in the metadata.

    Raises:
        FormatError: halves are missing, shapes do not fit, two keys name one thing.
        HostileFileError: a rank or a size is above its cap.
    """
    keyed = group_keys(tensors, where)
    assembly = Assembly(where, format)
    namer = Namer.of(keyed.modules)
    lone = not any("up" in slots for slots in keyed.modules.values())
    room = Room.of(tensors.values())
    unknown = []
    for module, slots in keyed.modules.items():
        place = namer.place(module)
        if not place.known:
            unknown.append(module)
        scale = None
        if scale_of is not None and "down" in slots and "alpha" not in slots:
            scale = scale_of(place.names[0], slots["down"].shape[0] if slots["down"].ndim else 0)
        assembly.add_module(place, build_module(Parts(module, slots, where, scale, lone, room)))
    if unknown:
        assembly.ambiguities.append(
            f"names: {len(unknown)} modules such as {unknown[0]!r} are spelled with underscores that no table "
            "here can undo; they keep the spelling of the file"
        )
    _add_loose(assembly, keyed, namer)
    return assembly


def _add_loose(assembly: Assembly, keyed: Keyed, namer: Namer) -> None:
    unknown = []
    for key, tensor in keyed.loose.items():
        module, _, ending = key.rpartition(".")
        if key.startswith(("bundle_emb.", "<")):
            assembly.add_side(key, Side("token", tensor))
        elif ending == "scale" and module.endswith(("query_norm", "key_norm")):
            # BFL's control LoRAs bring new norms of q and k
            place = namer.place(module)
            assembly.add_side(f"{place.names[0]}.weight", Side("full", tensor))
        else:
            assembly.add_side(key, Side("native", tensor))
            unknown.append(key)
    if unknown:
        assembly.left.append(
            f"unknown: {len(unknown)} tensors of no known meaning are kept beside, such as {unknown[0]!r:.120}"
        )


def _sizes(place: Place, built: Built) -> tuple[int, ...] | None:
    """Rows of the parts of a fused module, None if it must stay fused."""
    if built.pair is not None:
        shape = built.pair.shape
    else:
        whole = built.side.get("diff") or built.side.get("set_weight")
        if whole is None or whole.tensor.ndim < 2:
            return None
        shape = (whole.tensor.shape[0], math.prod(whole.tensor.shape[1:]))
    sizes = place.sizes(*shape)
    if sizes is None or (built.pair is not None and not is_splittable(built.pair, sizes)):
        return None
    for side in built.side.values():
        rows = side.tensor.shape[0] if side.tensor.ndim else 0
        if side.kind not in (*BY_ROWS, "dora_magnitude") or rows != sum(sizes):
            return None  # a norm over all rows of the fused matrix, or something unknown
    return sizes


def _swapped(built: Built) -> Built:
    """With the two halves of the rows in the other order."""

    pair = None if built.pair is None else turn(built.pair)
    side = {
        ending: Side(side.kind, torch.cat(side.tensor.chunk(2)[::-1]))
        if side.tensor.ndim and side.tensor.shape[0] % 2 == 0 and side.kind != "native"
        else side
        for ending, side in built.side.items()
    }
    return Built(pair, built.scale, side, built.kind, used=built.used)


def _without_remarks(built: Built) -> Built:
    return Built(built.pair, built.scale, built.side, built.kind, used=built.used)
