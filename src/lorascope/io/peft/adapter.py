"""A PEFT adapter (tensors and configuration) -> `LoRA`.

Every tensor ends up as part of a layer, as a side tensor, or in an error. Layers are named by their module
path in the base model, in natural order. Side tensors:

    bias             a trained bias of the base model             LAYER.bias
    lora_bias        what lora_bias=True adds to the bias         LAYER.lora_bias (times the scale)
    dora_magnitude   DoRA's row norms                             LAYER.dora_magnitude
    full             a replaced tensor (modules_to_save, ...)     its parameter path
    embedding        the weight of an adapted, resized embedding  its parameter path
    base             weights of the base that a raw dump holds    its parameter path
    token_delta      trained rows of an embedding                 MODULE.trainable_tokens_delta
    native           kept as the file has it                      its key

Keys are read in keys.py, flags and scales in config.py, pairs in pair.py and moe.py, LoHa and LoKr in
native.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lorascope.core import LoRA, Provenance, Scale, Side, Update
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.factors import fold
from lorascope.io.finish import natural, nonfinite_note
from lorascope.io.header import MAX_TENSORS
from lorascope.io.peft.config import PeftConfig
from lorascope.io.peft.keys import (
    WRAPPER,
    FactorKey,
    one_adapter,
    parse_key,
    parse_side,
    strip_wrappers,
)
from lorascope.io.peft.moe import count_experts, find_stacks, read_stack
from lorascope.io.peft.native import build_factors, is_native
from lorascope.io.peft.pair import build_pair
from lorascope.io.room import Room
from lorascope.io.tensors import TensorFile

__all__ = ["read_peft"]

# Tensors that belong to a layer without being part of its pair: slot -> (kind, name after the layer's).
BESIDE = {
    "lora_magnitude_vector": ("dora_magnitude", "dora_magnitude"),
    "lora_bias": ("lora_bias", "lora_bias"),
}


@dataclass
class _Reading:
    """What is gathered while the file is read."""

    where: str
    config: PeftConfig
    room: Room
    layers: dict[str, Update] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    side: dict[str, Side] = field(default_factory=dict)
    ambiguities: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add_side(self, name: str, side: Side) -> None:
        if name in self.side:
            raise FormatError(f"Reading {self.where!r}: two of its keys name the tensor {name!r}.")
        self.side[name] = side

    def add_layer(self, name: str, pair: Update, scale: Scale, kind: str | None) -> None:
        if name in self.layers:
            raise FormatError(f"Reading {self.where!r}: two of its keys name the layer {name!r}.")
        self.layers[name] = pair
        self.scales[name] = scale
        if kind is not None:
            self.kinds[name] = kind


def read_peft(file: TensorFile, config: PeftConfig, where: str) -> LoRA:
    """Read a PEFT adapter.

    Args:
        file: all tensors of the file.
        config: what adapter_config.json says, or that there is none.
        where: the file, for messages and provenance.

    Raises:
        FormatError: a tensor has no place, a half is missing, shapes do not fit.
        HostileFileError: a rank or a count is above its cap.
    """
    modules, loose = _group(file.tensors, where)
    if not modules:
        first = next(iter(file.tensors), None)
        raise FormatError(
            f"Reading {where!r} as PEFT: none of its {len(file.tensors)} tensors is a factor (the first is "
            f"{first!r:.80}). Expected keys such as '...q_proj.lora_A.weight'."
        )
    reading = _Reading(where, config, Room.of(file.tensors.values()))
    covered = _read_stacks(reading, modules)
    for spelled, slots in modules.items():
        if spelled not in covered:
            _read_module(reading, spelled, slots)
    if not reading.layers:
        raise FormatError(
            f"Reading {where!r} as PEFT: no layer can be read. {reading.ambiguities[0]}."
        )
    _read_loose(reading, loose, file.tensors)
    _report(reading)
    return _finish(reading, file.metadata)


def _group(
    tensors: Mapping[str, Tensor], where: str
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Factors by module (as the file spells it) and slot, and the tensors that are no factors."""
    modules: dict[str, dict[str, Tensor]] = {}
    loose: dict[str, Tensor] = {}
    parsed = {key: parse_key(key) for key in tensors}
    one_adapter((factor.adapter for factor in parsed.values() if factor), where)
    for key, factor in parsed.items():
        if factor is None:
            loose[key] = tensors[key]
            continue
        slots = modules.setdefault(factor.module, {})
        _check_new(factor, slots, key, where)
        slots[factor.slot] = tensors[key]
    return modules, loose


def _check_new(factor: FactorKey, slots: Mapping[str, Tensor], key: str, where: str) -> None:
    if not factor.module:
        raise FormatError(
            f"Reading {where!r}: the key {key!r} names no module. Expected MODULE.lora_A.weight."
        )
    if factor.slot in slots:
        raise FormatError(
            f"Reading {where!r}: {key!r} and another key both name {factor.slot} of layer {factor.module!r}."
        )


def _read_stacks(reading: _Reading, modules: Mapping[str, Mapping[str, Tensor]]) -> set[str]:
    """Read the stacks of experts; the spelled names of the modules that are done with."""
    stacks, covered = find_stacks(modules, reading.config)
    if count_experts(stacks, reading.config) > MAX_TENSORS:
        raise HostileFileError(
            f"Reading {reading.where!r}: its experts make more than {MAX_TENSORS} layers."
        )
    for stack in stacks:
        read = read_stack(stack, reading.config, reading.where)
        if read is None:
            reading.ambiguities.append(
                f"experts: the {len(stack.wrappers)} wrappers of {stack.module!r} are kept as they are: "
                "without the target_parameters and the rank of adapter_config.json they cannot be told apart"
            )
            for spelled, slots in zip(stack.spelled, stack.wrappers, strict=True):
                for slot, tensor in slots.items():
                    reading.add_side(f"{spelled}.{slot}.weight", Side("native", tensor))
            continue
        for name, pair in read.layers.items():
            reading.add_layer(name, pair, read.scales[name], read.kinds.get(name))
        reading.ambiguities.extend(read.ambiguities)
    if stacks and (reading.config.base or "").startswith("unsloth/"):
        reading.ambiguities.append(
            "experts: early versions of Unsloth packed B in another order, which the file does not show"
        )
    return set(covered)


def _read_module(reading: _Reading, spelled: str, slots: Mapping[str, Tensor]) -> None:
    layer = strip_wrappers(spelled)
    # a module inside a wrapper (out_proj of an attention) has the rank and the alpha of the wrapper
    rule = spelled.partition(f"{WRAPPER}.")[0]
    pair_slots = {slot: tensor for slot, tensor in slots.items() if slot not in BESIDE}
    if is_native(slots):
        scale = _read_native(reading, layer, pair_slots, rule)
    else:
        built = build_pair(
            layer, pair_slots, reading.config, reading.where, reading.room, rule=rule
        )
        scale = built.scale
        reading.add_layer(layer, built.pair, scale, built.kind)
        if built.remark:
            reading.notes.append(built.remark)
    expected = reading.config.rank_of(rule)
    if expected is not None and expected != scale.rank and not reading.config.adalora:
        reading.ambiguities.append(
            f"rank: the configuration gives layer {layer!r} rank {expected}, its tensors have "
            f"{scale.rank}; the scale is taken from the tensors"
        )
    for slot, (kind, ending) in BESIDE.items():
        if slot in slots:
            factor = scale.factor if slot == "lora_bias" else 1.0
            reading.add_side(f"{layer}.{ending}", Side(kind, fold(slots[slot], factor)))


def _read_native(reading: _Reading, layer: str, slots: Mapping[str, Tensor], rule: str) -> Scale:
    """Take in a module of LoHa or LoKr; its scale."""
    built = build_factors(layer, slots, reading.config, reading.where, reading.room, rule)
    scale = built.scale or reading.config.scale_of(rule, 1)
    if built.pair is not None:
        reading.add_layer(layer, built.pair, scale, built.kind)
    for slot in slots.keys() - built.used:
        reading.add_side(f"{layer}.{slot}", Side("native", slots[slot]))
    return scale


def _read_loose(reading: _Reading, loose: Mapping[str, Tensor], keys: Mapping[str, Tensor]) -> None:
    embeddings = {name: None for name, kind in reading.kinds.items() if kind == "embedding"}
    for key, tensor in loose.items():
        if key.endswith(".alpha") and tensor.numel() == 1:
            raise FormatError(
                f"Reading {reading.where!r} as PEFT: the key {key!r} holds an alpha, which PEFT keeps in "
                "adapter_config.json. It is of another program, whose dialect this version does not read."
            )
        side = parse_side(key, keys, embeddings)
        reading.add_side(side.name, Side(side.kind, tensor))


def _report(reading: _Reading) -> None:
    """Facts about the whole file: flags, what lies beside the layers, values that are not finite."""
    config = reading.config
    reading.ambiguities[:0] = config.ambiguities()
    reading.notes[:0] = config.notes()
    kinds = [side.kind for side in reading.side.values()]
    for kind in dict.fromkeys(kinds):
        name = next(name for name, side in reading.side.items() if side.kind == kind)
        reading.notes.append(
            f"side: {kinds.count(kind)} tensors of kind {kind!r}, the first is {name!r}"
        )
    if "dora_magnitude" in kinds:
        reading.left.append(
            f"dora_rows: {kinds.count('dora_magnitude')} layers: DoRA's magnitudes of the rows act on the base "
            "weights and are kept beside; u v^T is the direction part"
        )
    if "dora_magnitude" in kinds and not config.flag("use_dora"):
        reading.notes.append("use_dora: magnitudes are present; u v^T is the direction part")
    reading.notes.extend(nonfinite_note(reading.layers, reading.side))


def _finish(reading: _Reading, metadata: Mapping[str, str]) -> LoRA:
    config = reading.config
    order = sorted(reading.layers, key=natural)
    version = config.data.get("peft_version")
    writer = f"peft {version}" if isinstance(version, str) else metadata.get("writer", "peft")
    provenance = Provenance(
        format="peft",
        source=reading.where,
        base=config.base,
        writer=writer,
        scales={name: reading.scales[name] for name in order},
        ambiguities=tuple(reading.ambiguities),
        notes=tuple(reading.notes),
        config=config.data,
        kinds={name: reading.kinds[name] for name in order if name in reading.kinds},
        left=tuple(reading.left),
    )
    side = {name: reading.side[name] for name in sorted(reading.side, key=natural)}
    return LoRA({name: reading.layers[name] for name in order}, side, provenance)
