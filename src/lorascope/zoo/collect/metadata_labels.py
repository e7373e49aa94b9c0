"""Labels from what files say about their own training: `ss_*` metadata and PEFT's configuration.

    zoo import FOLDER --labels metadata

Each field that differs between files becomes a target; numbers such as the learning rate become regressions,
names such as the optimizer classes. Fields that name the file, its run or its data LEAK: a model that reads
them knows which file it has, or reads the answer off, and files of one run share them. They become no target;
they are listed with the reason, and the best of them groups the files, so that no run is split.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lorascope.errors import DataError, FileError, LorascopeError
from lorascope.io.adapters import walk
from lorascope.io.header import read_header
from lorascope.io.locate import CONFIG_NAME
from lorascope.predict.target import Target
from lorascope.zoo.collect.label_table import MAX_CLASSES, LabelTable, infer_kind

__all__ = ["LEAKS", "MetadataLabels", "leak_of", "metadata_labels"]

# pattern of a field's name -> why it leaks, first match first
LEAKS: Mapping[str, str] = MappingProxyType(
    {
        r"session_id": "it names the training run, which saves of many epochs share",
        r"hash|sha256": "a hash names the file or its base",
        r"output_name|title|model_name|_name$|name_or_path": "a name is given by hand and tells the subject",
        r"comment|description|author|tags?$|usage": "free text tells the subject and its author",
        r"tag_frequency|tag_dirs|trigger|class_tokens": "tags are what the file was trained on",
        r"dataset|bucket|reg_|_dirs?$": "it describes the data of the run",
        r"started_at|finished_at|date|time|timestamp": "a time names the run",
        r"seed": "a seed names the run",
        r"version|commit|revision|software": "a version tells when it was made",
        r"thumbnail|merged_from|license": "it names the file or its author",
    }
)
#: What files of one run share, best first.
GROUPS = ("ss_session_id", "ss_output_name", "ss_dataset_dirs")
WEIGHTS = ("adapter_model.safetensors", "adapters.safetensors", "pytorch_lora_weights.safetensors")
MAX_CONFIG_BYTES = 1 << 20
MAX_FIELDS = 1000
MAX_CHARACTERS = 200
ABSENT = frozenset({"", "None", "null", "{}", "[]"})
FIELD = re.compile(r"ss_|sshs_|modelspec\.")


@dataclass(frozen=True, eq=False)
class MetadataLabels:
    """The table of labels, and why each field that is no label is none.

    Args:
        table: as from a labels file.
        leaks: field -> why it would leak.
        left_out: field -> why it can be no label (the same everywhere, another value in every file).
        grouped_by: the field that says which files belong together, None if there is none.
        silent: files that hold no field, or whose fields cannot be read: they are not in the table.
    """

    table: LabelTable
    leaks: Mapping[str, str]
    left_out: Mapping[str, str]
    grouped_by: str | None
    silent: tuple[str, ...] = ()


def metadata_labels(folder: Path | str) -> MetadataLabels:
    """Read the fields of all files below a folder.

    Raises:
        FileError: the folder is not there.
        DataError: no file holds a field that can be a label.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"Reading labels from metadata: {folder} is no folder.")
    found = {str(path.relative_to(folder)): fields_of(path) for path in walk(folder)}
    rows = {file: fields for file, fields in found.items() if fields}
    fields = list(dict.fromkeys(name for row in rows.values() for name in row))[:MAX_FIELDS]
    columns = {name: [row.get(name, "") for row in rows.values()] for name in fields}
    leaks = {name: reason for name in fields if (reason := leak_of(name))}
    targets, labels, left_out = [], {}, {}
    for name in fields:
        if name in leaks:
            continue
        made = target_of(name, columns[name])
        if isinstance(made, str):
            left_out[name] = made
        else:
            targets.append(made[0])
            labels[made[0].name] = made[1]
    if not targets:
        raise DataError(
            f"Reading labels from the metadata of {folder}: found {len(rows)} files with {len(fields)} fields, "
            "none of which differs between them and may be predicted. Try: a labels file."
        )
    grouped = next((name for name in GROUPS if any(columns.get(name, ()))), None)
    groups = tuple(columns[grouped]) if grouped else None
    table = LabelTable(tuple(rows), tuple(targets), labels, {}, groups)
    silent = tuple(file for file in found if file not in rows)
    return MetadataLabels(table, leaks, left_out, grouped, silent)


def leak_of(field: str) -> str | None:
    """Why a field would leak, None if it may be predicted.

    Example:
        >>> leak_of("ss_learning_rate"), leak_of("ss_seed")
        (None, 'a seed names the run')
    """
    name = field.lower()
    return next((reason for mark, reason in LEAKS.items() if re.search(mark, name)), None)


def fields_of(path: Path) -> dict[str, str]:
    """The fields of one file or adapter folder; empty where it holds none or cannot be read."""
    weights = (
        next((path / n for n in WEIGHTS if (path / n).is_file()), path) if path.is_dir() else path
    )
    try:
        metadata: Mapping[str, Any] = read_header(weights).metadata
    except (LorascopeError, OSError):
        return {}
    told = {name: value for name, value in metadata.items() if FIELD.match(name)}
    told |= (
        {f"peft.{name}": value for name, value in config_of(path).items()} if path.is_dir() else {}
    )
    fields = {name: text_of(value) for name, value in told.items()}
    return {name: value for name, value in fields.items() if value not in ABSENT}


def config_of(folder: Path) -> Mapping[str, Any]:
    """PEFT's configuration, empty if there is none."""
    try:
        with (folder / CONFIG_NAME).open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        config = json.loads(raw) if len(raw) <= MAX_CONFIG_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def text_of(value: Any) -> str:
    """A value as a cell of the table."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text.strip().strip('"')[:MAX_CHARACTERS]


def target_of(name: str, cells: Sequence[str]) -> tuple[Target, list[Any]] | str:
    """The target of a field and its labels, or why it can be none."""
    known = Counter(cell for cell in cells if cell)
    if len(known) < 2:
        return "it is the same everywhere"
    kind = infer_kind([cell.replace("|", "/") for cell in cells])
    short = name.removeprefix("ss_").replace(".", "_")
    if kind == "regression":
        numbers = [number(cell) for cell in cells]
        return Target(short, "regression"), numbers
    if len(known) > MAX_CLASSES or len(known) == known.total():
        return f"it has {len(known)} different values: it names the file"
    return Target(short, "multiclass", tuple(sorted(known))), [cell or None for cell in cells]


def number(cell: str) -> float | None:
    """The finite number of a cell, None where it is missing."""
    value = float(cell) if cell else float("nan")
    return value if abs(value) < float("inf") else None
