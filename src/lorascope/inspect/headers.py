"""Facts from the header of a file alone: no value is read, and no tensor library is loaded.

What a header tells: names, sizes, ranks, types, metadata; so format, base family, missing halves, shards not
gathered, contradictions. What it cannot: scales that stand in tensors, norms, NaN, untrained layers.
Only safetensors have such a header; examine.py reads other files whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorascope.errors import LorascopeError
from lorascope.inspect.facts import Facts, LayerFacts, SideFacts
from lorascope.inspect.families import family_of
from lorascope.inspect.outline import Module, Outline, outline_of
from lorascope.inspect.problem import Problem, Severity, count, some
from lorascope.inspect.refusals import refusal
from lorascope.inspect.training import training_of
from lorascope.io.dialects.metadata import base_of, writer_of
from lorascope.io.dialects.table import recognise
from lorascope.io.header import Header, open_regular, parse_json, read_header
from lorascope.io.locate import Found, locate

__all__ = ["header_facts", "outline_problems"]

READ = ("LORA", "ADALORA", "LOHA", "LOKR")  # the methods whose values are read
MAX_CONFIG_BYTES = 1 << 20
TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def header_facts(path: Path | str | Found) -> tuple[Facts, tuple[Problem, ...]]:
    """Facts of a file or an adapter's folder from its header, and what is wrong with its keys.

    Raises:
        FileError: as `lorascope.io.read_header`, or FormatError for what is no safetensors file or no LoRA.
    """
    found = path if isinstance(path, Found) else locate(Path(path), allow_pickle=False)
    header = read_header(found.weights)
    config, problems = config_of(found.config)
    table = config if "peft_type" in config else header.metadata
    name = recognise(header.tensors, str(found.weights), peft="peft_type" in config)
    outline = outline_of({key: info.shape for key, info in header.tensors.items()})
    layers, side = split_modules(outline, header)
    facts = Facts(
        source=str(found.weights),
        format=name,
        writer=writer_of(header.metadata),
        base=base_name(config) or base_of(header.metadata),
        parameters=sum(m.values for m in outline.modules if m.rank is not None),
        nbytes=header.file_bytes - header.data_start,
        layers=tuple(layers),
        side=tuple(side),
        config=table,
        family=family_of((module.name, module.n, module.m) for module in outline.modules),
        training=training_of(table),
        measured=False,
    )
    return facts, (*problems, *outline_problems(outline))


def config_of(path: Path | None) -> tuple[Mapping[str, Any], tuple[Problem, ...]]:
    """adapter_config.json as a table, empty where it is none, and why reading the values will refuse it."""
    if path is None:
        return {}, ()
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        config = parse_json(raw, str(path)) if len(raw) <= MAX_CONFIG_BYTES else None
    except (LorascopeError, OSError) as error:
        return {}, (refusal(error),)
    if not isinstance(config, dict):
        sentence = f"{str(path)!r} is no table of at most {MAX_CONFIG_BYTES} bytes."
        return {}, (Problem("format", Severity.ERROR, sentence),)
    method = config.get("peft_type", READ[0])
    if method in READ:
        return config, ()
    sentence = (
        f"Its peft_type is {method!r:.40}, of which no update is read; read are {', '.join(READ)}."
    )
    return config, (Problem("other-method", Severity.ERROR, sentence),)


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
    halves = [m for m in outline.modules if m.missing and m.name not in flat]
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
