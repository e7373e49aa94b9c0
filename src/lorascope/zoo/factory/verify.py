"""Whether a zoo on disk is what its build wrote: every file, every hash, every label.

Checked in this order, each finding named by its check:

    recipe    recipe.json is the one that the shards were made of, and the base is the recorded one
    shards    weights and rows of each shard are there, alone and whole
    hashes    of each file of weights, and of each LoRA in it
    finite    every factor and side tensor is finite; what is beyond an adapter's rank is zero
    index     index.parquet is exactly what the rows of the shards make; ids are unique
    counts    as many LoRAs as were asked for
    labels    every target has its column; values are of its kind, finite, and missing only where
              training diverged
    groups    every LoRA has one, copies share one; the rule of the split is the known one

Nothing is repaired here: the command that built the zoo makes again what is missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lorascope.errors import FileError, LorascopeError
from lorascope.io.shard_writer import RECIPE_DIGEST, index_of
from lorascope.io.shards import read_json, recipe_sha256
from lorascope.io.zoo_parts import fault_of_recipe, fault_of_splits
from lorascope.zoo.factory.verify_rows import check_groups, check_index, check_labels
from lorascope.zoo.factory.verify_shard import Finding, Shard, check_shard

__all__ = ["CHECKS", "Verification", "verify_zoo"]

CHECKS = ("recipe", "shards", "hashes", "finite", "index", "counts", "labels", "groups")


@dataclass
class Verification:
    """What was found; `findings` is empty where everything holds."""

    path: Path
    loras: int = 0
    shards: int = 0
    bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be checked, and why

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "path": str(self.path),
            "sound": self.sound,
            "loras": self.loras,
            "shards": self.shards,
            "bytes_read": self.bytes_read,
            "findings": [vars(finding) for finding in self.findings],
            "notes": self.notes,
        }


def verify_zoo(
    folder: str | Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Check a zoo, file by file; damage is collected, not raised.

    Args:
        progress: called with (done, total) shards.

    Raises:
        FileError: the folder is no zoo at all.
    """
    folder = Path(folder)
    if not (folder / "recipe.json").is_file():
        raise FileError(
            f"Verifying the zoo {folder}: there is no recipe.json in it, so it is no zoo. Try: the "
            "folder that lorascope zoo build named."
        )
    result = Verification(folder)
    recipe = _json(result, "recipe.json", "recipe", dict)
    if recipe is not None and (fault := fault_of_recipe(recipe)):
        result.findings.append(Finding("recipe", "recipe.json", fault))
        recipe = None
    tables = _shards(result, recipe, progress)
    index = _index(result, tables)
    if index is not None:
        result.loras = index.num_rows
        targets = recipe.get("targets", {}) if isinstance(recipe, dict) else {}
        result.findings += check_labels(index, targets, built="family" in (recipe or {}))
        result.findings += check_groups(index)
        result.findings += _counts(result, index)
    _sidecars(result)
    return result


def _shards(
    result: Verification, recipe: Any, progress: Callable[[int, int], None]
) -> list[pa.Table]:
    """Check every shard; the rows of those that can be read."""
    folder = result.path / "shards"
    names = sorted({path.stem for path in folder.glob("shard-*") if path.suffix != ".part"})
    result.findings += [
        Finding("shards", path.name, "is left from a write that did not end")
        for path in sorted(folder.glob("*.part"))
    ]
    tables, unhashed = [], 0
    for done, name in enumerate(names):
        shard = Shard(folder, name)
        result.findings += check_shard(shard)
        if shard.table is not None:
            tables.append(shard.table)
            unhashed += shard.recorded is None
            result.findings += _recipe(shard, recipe)
        result.bytes_read += shard.bytes_read
        progress(done + 1, len(names))
    result.shards = len(names)
    if unhashed:
        result.notes.append(
            f"{unhashed} shards record no hash of their file: written by an earlier version. Their "
            "LoRAs are checked one by one all the same"
        )
    return tables


def _recipe(shard: Shard, recipe: Any) -> Iterator[Finding]:
    """Whether a shard was made of this recipe."""
    if shard.table is None:
        return
    stored = (shard.table.schema.metadata or {}).get(RECIPE_DIGEST)
    if stored is not None and recipe is not None and stored.decode() != recipe_sha256(recipe):
        yield Finding(
            "recipe",
            "recipe.json",
            f"is not the one that {shard.name} was made of: it hashes to "
            f"{recipe_sha256(recipe)[:12]}, the shard names {stored.decode()[:12]}",
        )


def _index(result: Verification, tables: list[pa.Table]) -> pa.Table | None:
    path = result.path / "index.parquet"
    if not path.is_file():
        result.findings.append(
            Finding("index", path.name, "is missing: the build did not end. Try it again")
        )
        return None
    try:
        index = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        result.findings.append(Finding("index", path.name, f"cannot be read: {error}"))
        return None
    result.bytes_read += path.stat().st_size
    try:
        expected = index_of(tables) if tables else None
        result.findings += check_index(index, expected)
    except (pa.ArrowException, LookupError, TypeError) as error:
        result.findings.append(Finding("index", path.name, f"cannot be compared: {error}"))
        return None
    return index


def _counts(result: Verification, index: pa.Table) -> Iterator[Finding]:
    """Whether as many LoRAs are there as were asked for."""
    if not (result.path / "counts.json").is_file():
        return
    counts = _json(result, "counts.json", "counts", list)
    if not counts or "id" not in index.column_names:
        return
    if not all(type(count) is int for count in counts):
        yield Finding("counts", "counts.json", f"holds {counts!r:.80}, expected whole numbers")
        return
    asked, there = counts[-1], {i for i in index.column("id").to_pylist() if type(i) is int}
    missing = asked - sum(0 <= i < asked for i in there)
    if missing > 0:
        # the count may be anything: ids are named without going through all
        first = [i for i in range(min(asked, len(there) + 9)) if i not in there]
        yield Finding(
            "counts",
            "index.parquet",
            f"{missing} of {asked} LoRAs are missing (ids {_some(first, missing)}). Try: the "
            "same lorascope zoo build again",
        )


def _sidecars(result: Verification) -> None:
    """The small files beside the index."""
    splits = _json(result, "splits.json", "groups", dict)
    if splits is not None and (fault := fault_of_splits(splits)):
        result.findings.append(Finding("groups", "splits.json", fault))
    if (result.path / "report.json").is_file():
        _json(result, "report.json", "labels", dict)


def _json(result: Verification, name: str, check: str, kind: type) -> Any:
    """A small file, None with a finding where it is not what it should be."""
    try:
        data = read_json(result.path / name)
    except (LorascopeError, OSError, UnicodeDecodeError) as error:
        result.findings.append(Finding(check, name, f"cannot be read: {error}"))
        return None
    if not isinstance(data, kind):
        found = f"holds a {type(data).__name__}, expected a {kind.__name__}"
        result.findings.append(Finding(check, name, found))
        return None
    return data


def _some(values: list[int], count: int) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if count > 8 else "")
