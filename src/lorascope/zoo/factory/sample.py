"""A smaller zoo, drawn at random by group: whole groups, each stratum in its share.

Groups stay whole, so a person's two LoRAs are both in or both out, and fold and group of each LoRA are
those of the large zoo. Strata are the folds of the split, or the values of a column of the index (a label,
a hyper-parameter, whatever is there); within one, groups come in the order of hash("sample:SEED:group").
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lorascope.errors import DataError, FileError
from lorascope.io.digest import file_sha256
from lorascope.io.folds import fold_of, place_of
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import HYPER, LABEL, Zoo
from lorascope.zoo.factory.restore import report_of
from lorascope.zoo.factory.transfer import Taken, transfer

__all__ = ["draw_rows", "sample_zoo", "write_list"]

BINS = 5  # of a column of numbers, where it is no class


def draw_rows(zoo: Zoo, count: int, *, seed: int = 0, by: str | None = None) -> list[int]:
    """Places in the index of at most `count` LoRAs, of whole groups, ascending.

    Args:
        by: a column of the index, with or without its `label:` or `hyper:`: its classes, its number of
            labels or its quintiles are the strata, by the first LoRA of each group; the folds of the
            split otherwise.

    Raises:
        DataError: the count is not positive, or no group is as small as that, or there is no such
            column, or it has no classes and is no number.
    """
    if count < 1:
        raise DataError(f"Sampling {zoo.path}: found the count {count}, expected at least 1.")
    members: dict[str, list[int]] = {}
    for place, group in enumerate(zoo.groups()):
        members.setdefault(group, []).append(place)
    order = sorted(members, key=lambda group: place_of(f"sample:{seed}:{group}"))
    strata = _strata(zoo, members, by)
    quota = _quotas(count, strata, members)
    chosen: dict[str, None] = {}
    for stratum in sorted(quota, key=str):
        left = quota[stratum]
        for group in order:
            if strata[group] == stratum and len(members[group]) <= left:
                chosen[group] = None
                left -= len(members[group])
    left = count - sum(len(members[group]) for group in chosen)
    for group in order:  # what the strata left over
        if group not in chosen and len(members[group]) <= left:
            chosen[group] = None
            left -= len(members[group])
    if not chosen:
        least = min(map(len, members.values()))
        raise DataError(
            f"Sampling {count} LoRAs of {zoo.path}: groups are never cut, and the smallest has {least}. "
            f"Try: --count {least} or more."
        )
    return sorted(place for group in chosen for place in members[group])


def sample_zoo(
    zoo: Zoo,
    rows: Sequence[int],
    out: str | Path,
    *,
    drawn: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Zoo:
    """Some LoRAs of a zoo as a zoo of its own, with their ids.

    Args:
        drawn: how the rows were drawn, for the recipe.
        progress: called with (done, total) LoRAs.

    Raises:
        FileError: `out` holds something else.
    """
    recipe = {
        "kind": "sample",
        "base": zoo.recipe.get("base"),
        "targets": zoo.targets,
        "of": zoo.recipe,
        "index": file_sha256(zoo.path / "index.parquet"),
        "drawn": dict(drawn or {}) | {"loras": len(rows)},
    }
    table = zoo.index.to_pylist()
    taken = [Taken(0, place, table[place]) for place in rows]
    writer = ZooWriter(out, recipe)
    writer.log(event="sample", of=zoo.path.resolve().name, out_of=len(zoo), loras=len(rows))
    transfer([zoo], taken, writer, progress)
    made = writer.finish()
    return writer.finish(report_of(made.recipe, made.index))


def write_list(zoo: Zoo, rows: Sequence[int], path: Path) -> Path:
    """Rows as CSV: id, group, sha256, hyper-parameters and labels; classes by name, joined by "|".

    Raises:
        FileError: the file is there already.
    """
    if path.exists():
        raise FileError(f"Writing the list {path}: it is there already. Try: another name.")
    names = [n for n in zoo.index.column_names if n.startswith((LABEL, HYPER))]
    columns = ["id", "group", "sha256", *names]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(name.removeprefix(LABEL) for name in columns)
        for row in zoo.index.select(columns).take(list(rows)).to_pylist():
            writer.writerow(_cell(zoo, name, row[name]) for name in columns)
    return path


def _cell(zoo: Zoo, name: str, value: Any) -> Any:
    """A value as import_zoo reads it back: classes by name."""
    classes = zoo.targets.get(name.removeprefix(LABEL), {}).get("classes")
    if isinstance(value, list) and classes:
        return "|".join(c for c, has in zip(classes, value, strict=True) if has)
    return "|".join(map(str, value)) if isinstance(value, list) else value


def _strata(zoo: Zoo, members: Mapping[str, list[int]], by: str | None) -> dict[str, Any]:
    """The stratum of each group."""
    if by is None:
        fractions = zoo.splits["fractions"]
        return {group: fold_of(group, fractions) for group in members}
    values = _values(zoo, by)
    return {group: values[places[0]] for group, places in members.items()}


def _values(zoo: Zoo, by: str) -> Sequence[Any]:
    """The stratum of each LoRA by a column of the index."""
    there = zoo.index.column_names
    name = next((n for n in (LABEL + by, HYPER + by, by) if n in there), None)
    kinds = {LABEL + n: target.get("kind") for n, target in zoo.targets.items()}
    allowed = [
        n
        for n in there
        # an import stores the labels of a LoRA as numbers
        if _orders(zoo.index.schema.field(n).type) or kinds.get(n) == "multilabel"
    ]
    if name is None or name not in allowed:
        found = "no such column" if name is None else "a column of lists of numbers"
        short = dict.fromkeys(n.removeprefix(LABEL).removeprefix(HYPER) for n in allowed)
        raise DataError(
            f"Sampling {zoo.path} by {by!r}: found {found}, expected one of {', '.join(short)}."
        )
    kind, values = zoo.index.schema.field(name).type, zoo.index.column(name).to_pylist()
    if pa.types.is_list(kind):
        return [None if value is None else sum(map(bool, value)) for value in values]
    regression = zoo.targets.get(name.removeprefix(LABEL), {}).get("kind") == "regression"
    numbers = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if regression or (numbers and len(set(values)) > BINS):  # of few values each is a class
        known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        edges = np.nanquantile(known, np.linspace(0, 1, BINS + 1)[1:-1])
        return [int(place) for place in np.searchsorted(edges, known, side="right")]
    return values


def _orders(kind: pa.DataType) -> bool:
    """Whether the values of a column are classes or numbers, or lists of labels."""
    if pa.types.is_list(kind):
        return bool(pa.types.is_boolean(kind.value_type))
    return not pa.types.is_nested(kind)


def _quotas(
    count: int, strata: Mapping[str, Any], members: Mapping[str, list[int]]
) -> dict[Any, int]:
    """How many LoRAs of each stratum: proportional, remainders to the largest fractions."""
    sizes: dict[Any, int] = {}
    for group, stratum in strata.items():
        sizes[stratum] = sizes.get(stratum, 0) + len(members[group])
    total = sum(sizes.values())
    count = min(count, total)
    exact = {stratum: count * size / total for stratum, size in sizes.items()}
    quota = {stratum: int(share) for stratum, share in exact.items()}
    short = count - sum(quota.values())
    for stratum in sorted(exact, key=lambda s: (quota[s] - exact[s], str(s)))[:short]:
        quota[stratum] += 1
    return quota
