"""Facts from the header of a file alone: no value is read, and no tensor library is loaded.

What a header tells: names, sizes, ranks, types, metadata; so format, base family, missing halves, shards not
gathered, contradictions. What it cannot: scales that stand in tensors, norms, NaN, untrained layers.
Only safetensors have such a header; other files are refused here, with what to do instead.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorascope.errors import FormatError
from lorascope.inspect.facts import Facts, LayerFacts, SideFacts
from lorascope.inspect.families import family_of
from lorascope.inspect.outline import Module, Outline, outline_of
from lorascope.inspect.problem import Problem, Severity, count, some
from lorascope.inspect.training import training_of
from lorascope.io.dialects.metadata import base_of, writer_of
from lorascope.io.dialects.table import recognise
from lorascope.io.header import Header, read_header

__all__ = ["header_facts", "outline_problems", "weights_in"]

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapters.safetensors", "pytorch_lora_weights.safetensors")
MAX_CONFIG_BYTES = 1 << 20
TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def header_facts(path: Path | str) -> tuple[Facts, tuple[Problem, ...]]:
    """Facts of a file or an adapter's folder from its header, and what is wrong with its keys.

    Raises:
        FileError: as `lorascope.io.read_header`, or FormatError for what is no safetensors file or no LoRA.
    """
    weights = weights_in(Path(path))
    header = read_header(weights)
    config = config_beside(weights)
    table = config if "peft_type" in config else header.metadata
    name = recognise(header.tensors, str(weights), peft="peft_type" in config)
    outline = outline_of({key: info.shape for key, info in header.tensors.items()})
    layers, side = split_modules(outline, header)
    facts = Facts(
        source=str(weights),
        format=name,
        writer=writer_of(header.metadata),
        base=base_name(config) or base_of(header.metadata),
        parameters=sum(layer.rank * (layer.n + layer.m) for layer in layers),
        nbytes=header.file_bytes - header.data_start,
        layers=tuple(layers),
        side=tuple(side),
        config=table,
        family=family_of((module.name, module.n, module.m) for module in outline.modules),
        training=training_of(table),
        measured=False,
    )
    return facts, tuple(outline_problems(outline))


def weights_in(path: Path) -> Path:
    """The safetensors file of an adapter's folder, or the file itself. Raises FormatError if there is none."""
    if not path.is_dir():
        return path
    found = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if found is None:
        raise FormatError(
            f"Reading the header of {str(path)!r}: expected {' or '.join(WEIGHTS)} in it. "
            "Try: without --headers."
        )
    return found


def config_beside(weights: Path) -> Mapping[str, Any]:
    """adapter_config.json next to the weights; empty if it is absent, too large or no table."""
    path = weights.parent / CONFIG
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        config = json.loads(raw) if len(raw) <= MAX_CONFIG_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def base_name(config: Mapping[str, Any]) -> str | None:
    """The base that PEFT's configuration names."""
    name = config.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def split_modules(outline: Outline, header: Header) -> tuple[list[LayerFacts], list[SideFacts]]:
    """Modules of known rank as layers; the others, and loose tensors, beside them."""
    types = {info.dtype for info in header.tensors.values() if len(info.shape) > 1}
    dtype = TYPES.get(next(iter(types)), "other") if len(types) == 1 else "mixed"
    layers = [
        LayerFacts(m.name, m.n or 0, m.m or 0, m.rank, dtype, m.kernel)
        for m in outline.modules
        if m.rank is not None
    ]
    side = [
        SideFacts(m.name, m.algorithm, (), dtype, True) for m in outline.modules if m.rank is None
    ]
    for key in outline.loose:
        info = header.tensors.get(key)
        if info is not None:
            side.append(
                SideFacts(key, "native", info.shape, TYPES.get(info.dtype, info.dtype), True)
            )
    return layers, side


def outline_problems(outline: Outline) -> Iterator[Problem]:
    """What a reader of the values would refuse or leave: halves without the other, shards not gathered."""
    flat = names(m for m in outline.modules if m.algorithm == "lora" and m.rank is None)
    if flat:
        yield Problem(
            "not-gathered",
            Severity.ERROR,
            f"{count(flat, 'layer')} with a factor of fewer than two axes ({some(flat)}): shards of ZeRO-3 or "
            "FSDP that were saved without being gathered.",
            flat,
        )
    empty = names(m for m in outline.modules if m.rank == 0 or m.n == 0 or m.m == 0)
    if empty:
        yield Problem(
            "not-gathered",
            Severity.ERROR,
            f"{count(empty, 'layer')} with an empty factor ({some(empty)}): shards that were not gathered.",
            empty,
        )
    halves = [m for m in outline.modules if m.missing and m.rank is not None]
    if halves:
        first = halves[0]
        yield Problem(
            "missing-half",
            Severity.ERROR,
            f"{count(halves, 'layer')} with one factor only ({first.name} lacks {first.missing}): the file is "
            "incomplete.",
            names(halves),
        )


def names(modules: Iterable[Module]) -> tuple[str, ...]:
    """Their names."""
    return tuple(module.name for module in modules)
