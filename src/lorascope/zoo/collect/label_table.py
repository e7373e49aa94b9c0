"""`labels.csv`: what the keeper of a collection knows about each LoRA, read into columns with their kinds.

    file,subject,score,tags,hyper:learning_rate,group
    a/dragon.safetensors,dragon,27.1,red|flying,1e-4,creator-1

`file` is relative to the folder. Every other column is a label, except the group and those named hyper:*. What
kind of target a label is follows from its values, unless the caller says so:

    numbers                           regression
    numbers that are only 0 and 1,
    true/false, any other text        multiclass
    text with | between entries       multilabel
    an empty cell                     a missing label
"""

import csv
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorascope.errors import DataError, FileError
from lorascope.io.shards import HYPER
from lorascope.predict.target import Kind, Target

__all__ = ["LabelTable", "read_labels"]

FILE = "file"
SEPARATOR = "|"
MAX_CLASSES = 1000
MAX_CSV_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The rows of a labels file.

    Args:
        files: relative paths, each once.
        targets: what can be predicted.
        labels: per target one value a row, None where missing; multi-label ones as lists of 0 and 1.
        hyper: per hyper-parameter one number a row.
        groups: one name a row, None where the file has no group column.
        told: what a reader of the columns should know of how they were taken.
    """

    files: tuple[str, ...]
    targets: tuple[Target, ...]
    labels: Mapping[str, list[Any]]
    hyper: Mapping[str, list[float]]
    groups: tuple[str, ...] | None
    told: tuple[str, ...] = ()


def read_labels(
    path: str | Path, *, group: str | None = None, kinds: Mapping[str, Kind] | None = None
) -> LabelTable:
    """Read a labels file.

    Args:
        path: the CSV file.
        group: the column that says what LoRAs share (creator, subject, dataset); "group" if there is one.
        kinds: the kind of some labels, where the values would tell another.

    Raises:
        FileError: the file is not there or is no text.
        DataError: it has no `file` column, a file stands twice, a row is short, or a label cannot be read.
    """
    path = Path(path)
    header, rows, lines = _read_rows(path)
    group = group or ("group" if "group" in header else None)
    for wanted in (FILE, *([group] if group else []), *(kinds or {})):
        if wanted not in header:
            raise DataError(
                f"Reading labels from {path}: there is no column {wanted!r}. Found: {', '.join(header)}."
            )
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(header)}
    files = columns.pop(FILE)
    twice = next((name for name, count in Counter(files).items() if count > 1), None)
    if twice is not None:
        raise DataError(
            f"Reading labels from {path}: the file {twice!r} stands twice, expected once."
        )
    groups = tuple(columns.pop(group)) if group else None
    hyper = {
        name.removeprefix(HYPER): _numbers(path, name, columns.pop(name), lines)
        for name in list(columns)
        if name.startswith(HYPER)
    }
    targets, labels, told = [], {}, []
    for name, cells in columns.items():
        kind = (kinds or {}).get(name) or infer_kind(cells)
        if name not in (kinds or {}) and kind == "multiclass":
            told += _among_numbers(name, cells)
        target, values = _target(path, name, kind, cells, lines)
        targets.append(target)
        labels[name] = values
    return LabelTable(tuple(files), tuple(targets), labels, hyper, groups, tuple(told))


def infer_kind(cells: list[str]) -> Kind:
    """The kind of target that a column of text holds."""
    known = [cell for cell in cells if cell]
    if any(SEPARATOR in cell for cell in known):
        return "multilabel"
    try:
        numbers = {float(cell) for cell in known}
    except ValueError:
        return "multiclass"
    return "multiclass" if numbers <= {0.0, 1.0} else "regression"


def _among_numbers(name: str, cells: list[str]) -> list[str]:
    """That a column became classes because of a few words among its numbers: `N/A` in a table of scores."""
    words = [cell for cell in cells if cell and not _is_number(cell)]
    numbers = sum(map(_is_number, cells))
    if not words or len(words) >= numbers:
        return []
    return [
        f"The column {name!r} is read as classes: {len(words)} of its cells are no numbers, such as "
        f"{words[0]!r}, beside {numbers} that are. Try: empty cells where a number is missing."
    ]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The names of the columns, the rows, and the line of the file on which each row ends."""
    if not path.is_file():
        raise FileError(
            f"Reading labels: {path} is not there. Expected a CSV file with a column 'file'."
        )
    if path.stat().st_size > MAX_CSV_BYTES:
        raise FileError(f"Reading labels from {path}: it is larger than {MAX_CSV_BYTES} bytes.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            numbered = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(
            f"Reading labels from {path}: it is no CSV text in UTF-8 ({error})."
        ) from error
    lines, rows = [line for line, _ in numbered], [row for _, row in numbered]
    if len(rows) < 2:
        raise DataError(f"Reading labels from {path}: found no rows, expected a header and rows.")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header):
        raise DataError(
            f"Reading labels from {path}: a column stands twice in {', '.join(header)}."
        )
    if "" in header:
        raise DataError(
            f"Reading labels from {path}: column {header.index('') + 1} has no name. "
            "Try: pandas' to_csv(index=False), or remove the column."
        )
    for line, row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise DataError(
                f"Reading labels from {path}: line {line} has {len(row)} cells, expected {len(header)}."
            )
    return header, rows[1:], lines[1:]


def _target(
    path: Path, name: str, kind: Kind, cells: list[str], lines: list[int]
) -> tuple[Target, list[Any]]:
    """The target of a column and its values, None where a cell is empty."""
    if kind == "regression":
        numbers = _numbers(path, name, cells, lines)
        return Target(name, kind), [None if x != x else x for x in numbers]
    entries = [[part.strip() for part in cell.split(SEPARATOR) if part.strip()] for cell in cells]
    if kind == "multiclass":
        entries = [[cell] if cell else [] for cell in cells]
    classes = tuple(sorted({part for row in entries for part in row}))
    if len(classes) > MAX_CLASSES or len(classes) < (2 if kind == "multiclass" else 1):
        raise DataError(
            f"Reading labels from {path}: the column {name!r} ({kind}) has {len(classes)} different "
            f"values, expected 2 to {MAX_CLASSES}. Try: remove the column, or give its kind."
        )
    if kind == "multiclass":
        return Target(name, kind, classes), [cell or None for cell in cells]
    known = [[float(c in row) for c in classes] if row else None for row in entries]
    return Target(name, kind, classes), known


def _numbers(path: Path, name: str, cells: list[str], lines: list[int]) -> list[float]:
    """A column as numbers, NaN where a cell is empty or says so."""
    numbers = []
    for line, cell in zip(lines, cells, strict=True):
        try:
            number = float(cell) if cell else math.nan
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise DataError(
                f"Reading labels from {path}: line {line} of the column {name!r} holds {cell!r}, expected a "
                "finite number or nothing."
            )
        numbers.append(number)
    return numbers
