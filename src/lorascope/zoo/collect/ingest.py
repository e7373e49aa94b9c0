"""`import_zoo`: a folder of anyone's LoRAs and a table of labels become a zoo like a built one.

Two passes, so that a collection larger than memory can be imported: the first reads each file and keeps only
its layers and rank, the second writes shards, files of one rank together. A file that cannot be read, whose
layers are not those of most of the collection, or have other sizes, is left out, written to build.jsonl with
the reason, and counted: never dropped in silence.

Exact copies are always one group, also under different names, so that they stay on one side of a split.
Without a group column, LoRAs that share a creator or a dataset may not, and the report says so.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lorascope.core import LayerShape, LoRA, Signature
from lorascope.errors import DataError, FileError, LayerError, LorascopeError
from lorascope.io.read import read_lora
from lorascope.io.shard_file import lora_digest
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import HYPER, LABEL, Zoo
from lorascope.predict.target import Kind
from lorascope.zoo.collect.label_table import LabelTable, read_labels
from lorascope.zoo.collect.metadata_labels import metadata_labels

__all__ = ["ImportReport", "import_zoo"]

SHARD_BYTES = 256 * 2**20
METADATA = "metadata"


@dataclass(frozen=True)
class ImportReport:
    """What an import took and what it left out, with the reason by file."""

    zoo: Zoo
    taken: int
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """What the first pass keeps of a file."""

    place: int
    file: str
    layers: tuple[LayerShape, ...]
    base: str | None
    rank: int
    nbytes: int
    digest: str


def import_zoo(
    folder: str | Path,
    labels: str | Path,
    out: str | Path,
    *,
    group: str | None = None,
    kinds: Mapping[str, Kind] | None = None,
    allow_pickle: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Make a zoo of the LoRAs in a folder that a labels file names.

    Args:
        folder: where the files are; paths in the labels file are relative to it and may not leave it.
        labels: the CSV file (see label_table.py), or "metadata" for the fields that the files hold themselves
            (see metadata_labels.py).
        out: the folder of the zoo; an interrupted import of the same input resumes there.
        group: the column of what LoRAs share.
        kinds: the kind of some labels.
        allow_pickle: also read .bin and .pt files, through torch's weights-only loader.
        progress: called with (done, total) reads; each file is read twice.

    Raises:
        FileError: the folder or the labels file is not there, or `out` holds something else.
        DataError: the labels cannot be used, or no file can be read.

    Example:
        >>> report = import_zoo("loras", "labels.csv", "my-zoo")  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"Importing a zoo: {folder} is no folder. Expected one that holds LoRAs.")
    table, told = _labels(folder, labels, group, kinds)
    total, left_out = 2 * len(table.files), {}
    entries: list[_Entry] = []
    for place, file in enumerate(table.files):
        try:
            entries.append(_entry(place, file, _read(folder, file, allow_pickle)))
        except (LorascopeError, OSError) as error:
            left_out[file] = str(error)
        progress(place + 1, total)
    signature, misfits = _common_signature(entries)
    left_out |= misfits
    kept = [entry for entry in entries if entry.file not in left_out]
    if not kept:
        first = next(iter(left_out.items()))
        raise DataError(
            f"Importing {folder}: none of the {len(table.files)} files that {labels} names can be read. "
            f"The first, {first[0]!r}: {first[1]}"
        )
    writer = ZooWriter(out, _recipe(folder, labels, table, signature, kept, group))
    for file, reason in left_out.items():
        writer.log(event="left out", file=file, reason=reason)
    groups = _groups(kept, table)
    done = len(table.files) + len(left_out)
    for number, members in enumerate(_shards(kept)):
        if not writer.has_shard(number):
            loras = [_read(folder, entry.file, allow_pickle) for entry in members]
            rows = [_row(entry, table, groups) for entry in members]
            writer.add_shard(number, loras, rows, signature=signature)
        done += len(members)
        progress(done, total)
    warnings = (*told, *_warnings(table, kept))
    report = {"left_out": len(left_out), "warnings": warnings}
    return ImportReport(writer.finish(report), len(kept), left_out, warnings)


def _labels(
    folder: Path, labels: str | Path, group: str | None, kinds: Mapping[str, Kind] | None
) -> tuple[LabelTable, tuple[str, ...]]:
    """The table of labels, and what there is to say about its columns or about fields that became none."""
    if str(labels) != METADATA:
        table = read_labels(Path(labels), group=group, kinds=kinds)
        return table, table.told
    if group or kinds:
        raise DataError(
            "Importing with labels from metadata: found --group or --kind, expected neither: fields decide."
        )
    found = metadata_labels(folder)
    told = [f"{name} would leak: {reason}" for name, reason in found.leaks.items()]
    told += [f"{name} is no label: {reason}" for name, reason in found.left_out.items()]
    if found.silent:
        told.append(
            f"{len(found.silent)} files hold no training fields that can be read and are left out, such as "
            f"{found.silent[0]!r}. Try: a labels file, for these."
        )
    if found.grouped_by:
        told.append(f"Files that share {found.grouped_by} are one group: they are never split.")
    return found.table, tuple(told)


def _read(folder: Path, file: str, allow_pickle: bool) -> LoRA:
    # by its words, not by where links lead: collections are often folders of links, with names of their own
    path = Path(os.path.normpath(folder.resolve() / file))
    if not path.is_relative_to(folder.resolve()):
        raise FileError(f"Importing {file!r}: it leads out of {folder}. Expected a path below it.")
    lora = read_lora(path, allow_pickle=allow_pickle)
    if not lora.layers:
        kinds = ", ".join(sorted({side.kind for side in lora.side.values()})) or "nothing"
        raise LayerError(
            f"Importing {file!r}: no update of it can be made from the file alone (found {kinds} beside), "
            "expected the factors of one layer or more."
        )
    bad = next((n for n, x in lora.layers.items() if not all(map(_finite, x.factors))), None)
    if bad is not None:
        raise LayerError(
            f"Importing {file!r}: layer {bad!r} holds NaN or Inf, expected finite factors."
        )
    return lora


def _finite(factor: Tensor) -> bool:
    return bool(factor.isfinite().all())


def _entry(place: int, file: str, lora: LoRA) -> _Entry:
    signature = lora.signature()
    return _Entry(
        place, file, signature.layers, signature.base, lora.max_rank, lora.nbytes, lora_digest(lora)
    )


def _common_signature(entries: list[_Entry]) -> tuple[Signature, dict[str, str]]:
    """The union of the layers, each with the size that most files give it; and the files that differ."""
    misfits = _strangers(entries)
    entries = [entry for entry in entries if entry.file not in misfits]
    votes: dict[str, Counter[tuple[int, int]]] = {}
    for entry in entries:
        for shape in entry.layers:
            votes.setdefault(shape.name, Counter())[shape.n, shape.m] += 1
    sizes = {name: count.most_common(1)[0][0] for name, count in votes.items()}
    for entry in entries:
        wrong = next((s for s in entry.layers if sizes[s.name] != (s.n, s.m)), None)
        if wrong is not None:
            n, m = sizes[wrong.name]
            misfits[entry.file] = (
                f"Layer {wrong.name!r} is {wrong.n} x {wrong.m}, in most of the collection {n} x {m}: "
                "a LoRA of another base. Try: import it with others of its base."
            )
    kept = [entry for entry in entries if entry.file not in misfits]
    names = dict.fromkeys(shape.name for entry in kept for shape in entry.layers)
    bases = {entry.base for entry in kept}
    base = bases.pop() if len(bases) == 1 else None
    return Signature(tuple(LayerShape(name, *sizes[name]) for name in names), base), misfits


def _strangers(entries: list[_Entry]) -> dict[str, str]:
    """Files that share no layer with most of the collection, not even through others."""
    firsts: dict[str, int] = {}  # of each layer: a file that has it
    parent = list(range(len(entries)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place, entry in enumerate(entries):
        for shape in entry.layers:
            parent[root(place)] = root(firsts.setdefault(shape.name, place))
    roots = [root(place) for place in range(len(entries))]
    if len(set(roots)) < 2:
        return {}
    most = Counter(roots).most_common(1)[0][0]
    known = entries[roots.index(most)].layers[0].name
    return {
        entry.file: (
            f"It has no layer of most of the collection, such as {known!r}; its first is "
            f"{entry.layers[0].name!r}: a LoRA of another base. Try: import it with others of its base."
        )
        for entry, own in zip(entries, roots, strict=True)
        if own != most
    }


def _recipe(
    folder: Path,
    labels: str | Path,
    table: LabelTable,
    signature: Signature,
    kept: list[_Entry],
    group: str | None,
) -> dict[str, Any]:
    return {
        "kind": "import",
        "folder": folder.resolve().name,
        "labels": _digest(labels, table),
        "contents": hashlib.sha256("".join(entry.digest for entry in kept).encode()).hexdigest(),
        "count": len(kept),
        "group": group,
        "base": signature.base,
        "targets": {target.name: target.to_json() for target in table.targets},
    }


def _digest(labels: str | Path, table: LabelTable) -> str:
    """A hash of the labels file, or of what the metadata gave."""
    if str(labels) != METADATA:
        return hashlib.sha256(Path(labels).read_bytes()).hexdigest()
    text = json.dumps([table.files, table.groups, sorted(table.labels.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def _shards(entries: list[_Entry]) -> Iterator[list[_Entry]]:
    """Entries of one rank together, a bounded number of bytes a shard; a function of the input alone."""
    members: list[_Entry] = []
    size = 0
    for entry in sorted(entries, key=lambda entry: (entry.rank, entry.place)):
        if members and (members[0].rank != entry.rank or size + entry.nbytes > SHARD_BYTES):
            yield members
            members, size = [], 0
        members.append(entry)
        size += entry.nbytes
    if members:
        yield members


def _groups(entries: list[_Entry], table: LabelTable) -> dict[int, str]:
    """The group of each place: those that share a name or the bytes of an adapter are one, however linked."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for entry in entries:
        named = table.groups[entry.place] if table.groups else ""
        if named:  # the named group becomes the root: names stay readable in the index
            parent[root(f"bytes:{entry.digest}")] = root(f"group:{named}")
    roots = {entry.place: root(f"bytes:{entry.digest}") for entry in entries}
    return {place: name.partition(":")[2] for place, name in roots.items()}


def _row(entry: _Entry, table: LabelTable, groups: Mapping[int, str]) -> dict[str, Any]:
    return {
        "id": entry.place,
        "file": entry.file,
        "group": groups[entry.place],
        **{HYPER + name: values[entry.place] for name, values in table.hyper.items()},
        **{LABEL + name: values[entry.place] for name, values in table.labels.items()},
    }


def _warnings(table: LabelTable, kept: list[_Entry]) -> tuple[str, ...]:
    warnings = []
    if table.groups is None:
        warnings.append(
            "There is no group column: exact copies stay together in a split, but LoRAs that share a "
            "creator, a subject or a dataset may stand in both train and test. Try: --group COLUMN."
        )
    bases = {entry.base for entry in kept}
    if len(bases) > 1:
        named = ", ".join(sorted(str(base) for base in bases)[:5])
        warnings.append(
            f"The files name {len(bases)} bases ({named}): predictions may not carry over."
        )
    return tuple(warnings)
