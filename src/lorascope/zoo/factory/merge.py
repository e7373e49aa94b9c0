"""Several zoos of the same targets and layers as one.

ids      kept where they are unique over all; else those of a later zoo are moved up
groups   kept by name: what shared a group still does, also across zoos, and LoRAs of copies are
         joined, so no split that held before leaks now
copies   a LoRA that two zoos hold (same bytes, or same recipe and index) is taken once
origin   `origin` and `origin_id` of each row name its part in recipe.json and its id there
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorascope.errors import DataError, SignatureError
from lorascope.io.digest import file_sha256
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import Zoo, open_zoo, recipe_sha256
from lorascope.zoo.factory.restore import parts_of, report_of
from lorascope.zoo.factory.transfer import Taken, transfer

__all__ = ["Merged", "merge_zoos"]

ORDER = ("first", "second")
COMPARED = ("kind", "classes", "metric", "unit")


@dataclass(frozen=True, eq=False)
class Merged:
    """The zoo that a merge made, and what it did."""

    zoo: Zoo
    copies: int  # LoRAs that a later zoo held again, left out
    joined: int  # groups that were joined because of them
    moved: Mapping[str, int]  # zoo -> what was added to its ids


def merge_zoos(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Make one zoo of several; a merge that was stopped goes on.

    Args:
        folders: two or more zoos, in the order in which ids and copies are kept.
        out: the folder of the new zoo.
        progress: called with (done, total) LoRAs.

    Raises:
        DataError: fewer than two zoos, one given twice, or their targets or bases differ.
        SignatureError: their layers differ.
        FileError: one is no zoo, or `out` holds something else.
    """
    zoos = [open_zoo(folder) for folder in folders]
    check_together(zoos)
    taken, copies, joined, moved = choose(zoos)
    writer = ZooWriter(out, merged_recipe(zoos))
    writer.log(event="merge", of=[zoo.path.name for zoo in zoos], copies=copies, joined=joined)
    transfer(zoos, taken, writer, progress)
    zoo = writer.finish()
    zoo = writer.finish(report_of(zoo.recipe, zoo.index))
    return Merged(zoo, copies, joined, moved)


def check_together(zoos: Sequence[Zoo]) -> None:
    """Raise unless zoos can be one."""
    doing = "Merging zoos"
    if len(zoos) < 2 or len({zoo.path.resolve() for zoo in zoos}) < len(zoos):
        raise DataError(
            f"{doing}: found {[str(zoo.path) for zoo in zoos]}, expected two or more, each once."
        )
    first = zoos[0]
    for other in zoos[1:]:
        pair = f"{doing} {first.path} and {other.path}"
        for name in sorted({*first.targets, *other.targets}):
            mine, theirs = (_kind(zoo.targets.get(name)) for zoo in (first, other))
            if mine != theirs:
                raise DataError(
                    f"{pair}: the target {name!r} is {theirs} in the second, expected {mine}. Try: "
                    "zoos of one family, or import both again with the same columns."
                )
        if _base(first) != _base(other):
            raise DataError(
                f"{pair}: found the base {_named(other)} in the second, expected {_named(first)}. Labels of "
                "two bases are not one quantity. Try: a zoo for each base."
            )
        if first.signature.layers != other.signature.layers:
            raise SignatureError(f"{pair}: {_difference(first, other)}")


def _kind(target: Mapping[str, Any] | None) -> Any:
    return None if target is None else {k: target[k] for k in COMPARED if target.get(k)}


def _base(zoo: Zoo) -> str:
    """The identity of a base: its sha256 where the zoo was built, else its name."""
    base = parts_of(zoo.recipe)[0].get("base")
    return str(base["sha256"]) if isinstance(base, dict) else str(zoo.signature.base)


def _named(zoo: Zoo) -> str:
    """A base as a message calls it; its folder may be called otherwise elsewhere."""
    base = parts_of(zoo.recipe)[0].get("base")
    if not isinstance(base, dict):
        return str(zoo.signature.base)
    return f"{base.get('folder')} (sha256 {str(base['sha256'])[:12]})"


def _difference(first: Zoo, other: Zoo) -> str:
    """What differs between the layers of two zoos of one base, and what to try."""
    mine, theirs = (
        {shape.name: (shape.n, shape.m) for shape in zoo.signature.layers} for zoo in (first, other)
    )
    alone = [set(a) - set(b) for a, b in ((mine, theirs), (theirs, mine))]
    if any(alone):
        told = [
            f"the {word} alone {_modules(names)}"
            for word, names in zip(ORDER, alone, strict=True)
            if names
        ]
        return (
            f"they adapt different layers; found {len(theirs)} in the second, expected the {len(mine)} of the "
            f"first: {', '.join(told)}. Try: zoos whose adapters have the same targets, since one zoo has one "
            "set of layers"
        )
    name = next((name for name in mine if mine[name] != theirs[name]), None)
    if name is None:
        return "their layers stand in another order. Try: importing or building both again"
    return f"layer {name!r} is {theirs[name]} in the second, expected {mine[name]}. Try: zoos of one base"


def _modules(names: set[str]) -> str:
    """Layers by the last part of their names, with their numbers."""
    counts = Counter(name.rsplit(".", 1)[-1] for name in sorted(names))
    return ", ".join(f"{module} ({count})" for module, count in counts.items())


def choose(zoos: Sequence[Zoo]) -> tuple[list[Taken], int, int, dict[str, int]]:
    """What is taken of each zoo, with its new row; how many copies are not; joined groups; moved ids."""
    tables = [zoo.index.to_pylist() for zoo in zoos]
    groups = Groups()
    # what tells a LoRA -> the zoo that had it first, its group
    firsts: dict[Any, tuple[int, str]] = {}
    taken: list[Taken] = []
    base, copies = 0, 0
    shifts = offsets(tables)
    for number, (zoo, rows) in enumerate(zip(zoos, tables, strict=True)):
        parts = [recipe_sha256(part) for part in parts_of(zoo.recipe)]
        for place, row in enumerate(rows):
            part, index = int(row.get("origin", 0)), int(row.get("origin_id", row["id"]))
            known = [firsts.get(key) for key in (row["sha256"], (parts[part], index))]
            earlier = next((k for k in known if k is not None and k[0] != number), None)
            if earlier is not None:
                groups.join(earlier[1], str(row["group"]))
                copies += 1
                continue
            for key in (row["sha256"], (parts[part], index)):
                firsts.setdefault(key, (number, str(row["group"])))
            new = {"id": row["id"] + shifts[number], "origin": base + part, "origin_id": index}
            taken.append(Taken(number, place, {**row, **new}))
        base += len(parts)
    taken = [Taken(t.zoo, t.place, {**t.row, "group": groups.of(t.row["group"])}) for t in taken]
    moved = {zoo.path.name: shift for zoo, shift in zip(zoos, shifts, strict=True) if shift}
    return taken, copies, groups.joined, moved


def offsets(tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[int]:
    """What is added to the ids of each zoo: nothing where they are unique over all."""
    ids = [row["id"] for rows in tables for row in rows]
    if len(set(ids)) == len(ids):
        return [0] * len(tables)
    shifts, top = [], 0
    for rows in tables:
        least = min(row["id"] for row in rows)
        shifts.append(max(0, top - least))
        top = max(row["id"] for row in rows) + shifts[-1] + 1
    return shifts


class Groups:
    """Names of groups, of which some are one."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.joined = 0

    def of(self, name: str) -> str:
        """The name that a group has from now on."""
        while (above := self.parent.get(name, name)) != name:
            name = above
        return name

    def join(self, first: str, second: str) -> None:
        """Make two groups one, under the first's name."""
        kept, gone = self.of(first), self.of(second)
        if kept != gone:
            self.parent[gone] = kept
            self.joined += 1


def merged_recipe(zoos: Sequence[Zoo]) -> dict[str, Any]:
    """What makes the merged zoo: the recipes of its parts and the indexes that they had."""
    parts = [
        {"name": zoo.path.resolve().name, "recipe": dict(part)}
        for zoo in zoos
        for part in parts_of(zoo.recipe)
    ]
    indexes = [file_sha256(zoo.path / "index.parquet") for zoo in zoos]
    base = parts_of(zoos[0].recipe)[0].get("base")
    return {
        "kind": "merged",
        "base": base,
        "targets": zoos[0].targets,
        "of": parts,
        "indexes": indexes,
    }
