"""The index of a zoo checked: against the shards, its labels against the targets, its groups."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from lorascope.io.shards import LABEL
from lorascope.zoo.factory.verify_shard import Finding

__all__ = ["check_groups", "check_index", "check_labels"]

INDEX = "index.parquet"
FIXED = ("id", "group", "sha256", "shard", "row", "rank", "provenance")


def check_index(index: pa.Table, expected: pa.Table | None) -> Iterator[Finding]:
    """The index against what the rows of all shards make."""
    missing = [name for name in FIXED if name not in index.column_names]
    if missing:
        yield Finding("index", INDEX, f"has no column {', '.join(missing)}")
        return
    counted = Counter(index.column("id").to_pylist())
    twice = sorted(i for i, count in counted.items() if count > 1)
    if twice:
        yield Finding("index", INDEX, f"names ids more than once: {twice[:8]}")
    if expected is None or index.equals(expected):
        return
    yield from _differences(index, expected)


def _differences(index: pa.Table, expected: pa.Table) -> Iterator[Finding]:
    """Where the index and the rows of the shards part, by id and column."""
    mine = {row["id"]: row for row in index.to_pylist()}
    theirs = {row["id"]: row for row in expected.to_pylist()}
    for identity in sorted(mine.keys() - theirs.keys())[:8]:
        yield Finding("index", f"{INDEX}, id {identity}", "no shard holds it")
    for identity in sorted(theirs.keys() - mine.keys())[:8]:
        yield Finding("index", f"{INDEX}, id {identity}", "is in a shard but not in the index")
    differing = 0
    for identity in sorted(mine.keys() & theirs.keys()):
        a, b = mine[identity], theirs[identity]
        for name in sorted(a.keys() | b.keys()):
            if not _same(a.get(name), b.get(name)):
                differing += 1
                if differing <= 8:
                    found = f"{name} is {_short(a.get(name))}, in its shard {_short(b.get(name))}"
                    yield Finding("index", f"{INDEX}, id {identity}", found)
    if differing > 8:
        yield Finding("index", INDEX, f"{differing} values in all differ from those of the shards")
    ordered = index.column("id").to_pylist() == expected.column("id").to_pylist()
    if (
        not differing
        and mine.keys() == theirs.keys()
        and not (index.schema.equals(expected.schema) and ordered)
    ):
        yield Finding("index", INDEX, "has other types or another order than the shards make")


def check_labels(
    index: pa.Table, targets: Mapping[str, Mapping[str, Any]], *, built: bool
) -> Iterator[Finding]:
    """Each target's labels: there, of their kind, finite, missing only where training diverged.

    Args:
        built: of a built zoo, where a label that is missing is a fault; an import may lack some.
    """
    diverged: list[Any] = [False] * index.num_rows
    if "diverged" in index.column_names:
        diverged = index.column("diverged").to_pylist()
    for target, facts in targets.items():
        name = LABEL + target
        if name not in index.column_names:
            yield Finding("labels", INDEX, f"has no column {name} for the target {target}")
            continue
        values = index.column(name).to_pylist()
        for identity, value, bad in zip(
            index.column("id").to_pylist(), values, diverged, strict=True
        ):
            problem = _problem(value, facts, missing_is_fine=bool(bad) or not built)
            if problem:
                yield Finding("labels", f"{INDEX}, id {identity}", f"{name} {problem}")


def _problem(value: Any, facts: Mapping[str, Any], *, missing_is_fine: bool) -> str:
    """What is wrong with a label, nothing if it is sound."""
    kind, classes = facts.get("kind"), list(facts.get("classes", ()))
    if value is None:
        return "" if missing_is_fine else "is missing"
    if kind == "regression":
        number = isinstance(value, int | float) and math.isfinite(value)
        return "" if number else f"is {_short(value)}, expected a finite number"
    if kind == "multilabel":
        fits = isinstance(value, list) and len(value) == len(classes) and None not in value
        return "" if fits else f"is {_short(value)}, expected {len(classes)} of true or false"
    known = not classes or value in classes or (isinstance(value, int) and value < len(classes))
    return "" if known else f"is {_short(value)}, expected one of {len(classes)} classes"


def check_groups(index: pa.Table) -> Iterator[Finding]:
    """Every LoRA has a group, and copies of one adapter share theirs."""
    if not {"group", "sha256", "id"} <= set(index.column_names):
        return
    owner: dict[str, Any] = {}
    columns = (index.column(name).to_pylist() for name in ("id", "group", "sha256"))
    for identity, group, digest in zip(*columns, strict=True):
        if group is None or group == "":
            yield Finding("groups", f"{INDEX}, id {identity}", "has no group")
        elif owner.setdefault(digest, group) != group:
            yield Finding(
                "groups",
                f"{INDEX}, id {identity}",
                f"is a copy of a LoRA of group {owner[digest]!r} but stands in {group!r}: splits leak",
            )


def _same(a: Any, b: Any) -> bool:
    both_nan = a != a and b != b
    return bool(both_nan or a == b)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
