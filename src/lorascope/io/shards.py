"""A zoo on disk: the one place where what makes LoRAs and what learns from them meet.

    recipe.json    what makes the zoo: input, never changed
    index.parquet  one row a LoRA: id, seed, group, sha256, shard, row, rank, hyper:*, label:*, provenance
    shards/        shard-NNNNN.safetensors (shard_file.py), each with its rows beside it in .parquet
    splits.json    the rule of the split (folds.py): a fold is a hash of the group; growing a zoo moves nothing
    report.json    ceilings and distributions of the labels
    build.jsonl    times, hosts, failures

`Zoo` only reads; shard_writer.py writes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from lorascope.core import GroupBatch, LoRA, LoRABatch, Signature
from lorascope.core.magnitudes import no_magnitudes
from lorascope.errors import DataError, FileError, IntegrityError
from lorascope.io.folds import SPLITS
from lorascope.io.provenance import load_provenance
from lorascope.io.shard_file import (
    read_shard,
    read_shard_loras,
    read_shard_side_kinds,
    read_shard_signature,
    read_shard_size,
)
from lorascope.io.zoo_parts import fault_of_index, fault_of_recipe, fault_of_splits

__all__ = [
    "HYPER",
    "LABEL",
    "Zoo",
    "open_zoo",
    "read_json",
    "recipe_sha256",
    "shard_path",
]


HYPER = "hyper:"
LABEL = "label:"


class Zoo:
    """A zoo on disk, opened for reading. Made by `open_zoo`.

    Columns are read at once, weights only when asked for.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "recipe.json").is_file():
            raise FileError(
                f"Opening the zoo {self.path}: there is no recipe.json in it, so it is no zoo. "
                "Try: lorascope zoo build, or lorascope zoo import to make one of a folder of LoRAs."
            )
        if not (self.path / "index.parquet").is_file():
            raise FileError(
                f"Opening the zoo {self.path}: it has no index.parquet yet, so its build did not end. "
                "Try: the same lorascope zoo build again, which resumes."
            )
        self.recipe: dict[str, Any] = read_json(self.path / "recipe.json")
        self._refuse("recipe.json", fault_of_recipe(self.recipe))
        try:
            self.index: pa.Table = pq.read_table(self.path / "index.parquet")
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"Opening the zoo {self.path}: its index cannot be read: {error}. "
                "Try: build it again, which keeps every complete shard."
            ) from error
        self._refuse("index.parquet", fault_of_index(self.index, self.targets, LABEL))

    def __len__(self) -> int:
        return self.index.num_rows

    def __repr__(self) -> str:
        return f"Zoo({str(self.path)!r}, {len(self)} LoRAs, targets {sorted(self.targets)})"

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """The quantities that can be predicted: name -> kind, classes, metric, base_value, ..."""
        return dict(self.recipe.get("targets", {}))

    @property
    def report(self) -> dict[str, Any]:
        """Ceilings and distributions, empty if none was written."""
        return self._object("report.json", {})

    @property
    def splits(self) -> dict[str, Any]:
        """The rule of the split and its fractions."""
        splits = self._object("splits.json", SPLITS)
        self._refuse("splits.json", fault_of_splits(splits))
        return splits

    @cached_property
    def signature(self) -> Signature:
        """The layers that its LoRAs have between them."""
        return read_shard_signature(self._shard(0))

    def column(self, name: str) -> NDArray[Any]:
        """A column of the index, lists stacked to two dimensions (kept as objects where some are missing).

        Raises DataError if there is none of that name, naming those that are there.
        """
        if name not in self.index.column_names:
            raise DataError(
                f"Reading a column of {self.path}: there is no {name!r}. "
                f"Found: {', '.join(self.index.column_names)}."
            )
        column = self.index.column(name)
        if not pa.types.is_list(column.type):
            return column.to_numpy()
        rows = column.to_pylist()
        if None not in rows:
            return np.array(rows)
        ragged = np.empty(len(rows), dtype=object)  # a missing label stays None
        ragged[:] = rows
        return ragged

    def labels(self, target: str) -> NDArray[Any]:  # (N,) or (N, k)
        """The labels of a target. Raises DataError if the zoo has no such target."""
        if target not in self.targets:
            raise DataError(
                f"Reading the labels {target!r} of {self.path}: found the targets "
                f"{', '.join(sorted(self.targets)) or 'none'}."
            )
        return self.column(LABEL + target)

    def groups(self) -> list[str]:
        """The group of each LoRA: those that share one must not be split."""
        return [str(group) for group in self.index.column("group").to_pylist()]

    def hyper(self) -> dict[str, NDArray[Any]]:
        """The hyper-parameters of each LoRA by name; empty if none are recorded."""
        names = [name for name in self.index.column_names if name.startswith(HYPER)]
        return {name.removeprefix(HYPER): self.column(name) for name in names}

    def batch(
        self, rows: Sequence[int] | None = None, *, dtype: torch.dtype | None = None
    ) -> LoRABatch:
        """LoRAs by their place in the index (all by default), as one batch in that order.

        DoRA's magnitudes come with the factors where the zoo holds some; other side tensors do not.
        Raises IntegrityError if a shard is missing or damaged.
        """
        chosen = np.arange(len(self)) if rows is None else np.asarray(list(rows), dtype=np.int64)
        shards, places = self.column("shard")[chosen], self.column("row")[chosen]
        ranks_told = self.column("rank")[chosen]
        self._check_places(shards, places, ranks_told)
        rank = int(ranks_told.max(initial=0))
        dtype = dtype or read_shard(self._shard(0), rows=[]).dtype
        groups = [
            GroupBatch(
                torch.zeros(len(group), len(chosen), rank, group.n, dtype=dtype),
                torch.zeros(len(group), len(chosen), rank, group.m, dtype=dtype),
            )
            for group in self.signature.groups()
        ]
        ranks = torch.zeros(len(chosen), len(self.signature), dtype=torch.int64)
        magnitudes = None
        for number in np.unique(shards):  # one shard in memory at a time
            stored = read_shard(self._path(int(number)))
            to = torch.from_numpy(np.flatnonzero(shards == number))
            of = torch.from_numpy(places[shards == number].astype(np.int64))
            ranks[to] = stored.ranks[of]
            for group, piece in zip(groups, stored.groups, strict=True):
                group.u[:, to, : stored.rank] = piece.u[:, of, :rank].to(dtype)
                group.v[:, to, : stored.rank] = piece.v[:, of, :rank].to(dtype)
            if stored.magnitudes is not None:
                magnitudes = magnitudes or no_magnitudes(len(chosen), self.signature)
                magnitudes.put(to, stored.magnitudes.select(of))
        if magnitudes is not None and not bool(magnitudes.present.any()):
            magnitudes = None
        return LoRABatch(self.signature, tuple(groups), ranks, magnitudes)

    def side_kinds(self) -> set[str]:
        """The kinds of side tensors that any of its LoRAs has; only headers are read.

        Raises IntegrityError if a shard is missing or damaged.
        """
        numbers = np.unique(self.column("shard")).tolist()
        return set().union(*(read_shard_side_kinds(self._path(number)) for number in numbers))

    def lora(self, row: int) -> LoRA:
        """One LoRA by its place in the index, at its true ranks, with side tensors and provenance."""
        if not 0 <= row < len(self):
            raise DataError(
                f"Reading LoRA {row} of {self.path}: it has {len(self)}, counted from 0."
            )
        return next(iter(self.loras([row])))[1]

    def loras(self, rows: Sequence[int] | None = None) -> Iterator[tuple[int, LoRA]]:
        """LoRAs by their place in the index (all by default), shard by shard: (place, LoRA).

        Each shard is read once, so the order is that of the shards, not the one asked for.
        Raises IntegrityError if a shard is missing or damaged.
        """
        chosen = np.arange(len(self)) if rows is None else np.asarray(list(rows), dtype=np.int64)
        shards, places = self.column("shard")[chosen], self.column("row")[chosen]
        self._check_places(shards, places, self.column("rank")[chosen])
        texts = self.index.column("provenance")
        for number in np.unique(shards):
            members = np.flatnonzero(shards == number)
            stored = read_shard_loras(self._path(int(number)), places[members].tolist())
            for row, lora in zip(chosen[members].tolist(), stored, strict=True):
                yield row, replace(lora, provenance=load_provenance(texts[row].as_py()))

    def row_of(self, identity: int) -> int:
        """The place in the index of the LoRA with an id. Raises DataError if there is none."""
        found = np.flatnonzero(self.column("id") == identity)
        if not len(found):
            raise DataError(
                f"Looking for the LoRA with id {identity} in {self.path}: there is none. "
                f"Ids run from {self.column('id').min()} to {self.column('id').max()}."
            )
        return int(found[0])

    def _object(self, name: str, without: Mapping[str, Any]) -> dict[str, Any]:
        """A small file that is one JSON object; what stands for it where there is none."""
        path = self.path / name
        if not path.is_file():
            return dict(without)
        data = read_json(path)
        if not isinstance(data, dict):
            self._refuse(name, f"holds a {type(data).__name__}, expected an object")
        return dict(data)

    def _refuse(self, name: str, fault: str) -> None:
        """Raise IntegrityError where something is wrong with a file."""
        if fault:
            raise IntegrityError(
                f"Reading the zoo {self.path}: its {name} {fault}. It was changed or damaged. "
                f"Try: lorascope zoo verify {self.path}, which names what does not hold."
            )

    def _check_places(
        self, shards: NDArray[Any], places: NDArray[Any], ranks: NDArray[Any]
    ) -> None:
        """Raise IntegrityError where the index names LoRAs or ranks that a shard does not have."""
        for number in np.unique(shards).tolist():
            count, rank = read_shard_size(self._path(number))
            of = shards == number
            if places[of].max() >= count or ranks[of].max() > rank:
                told = f"place {places[of].max()} and rank {ranks[of].max()}"
                held = f"{count} LoRAs of rank {rank}"
                self._refuse("index.parquet", f"names {told} in shard {number}, which holds {held}")

    def _shard(self, row: int) -> Path:
        return self._path(int(self.column("shard")[row]))

    def _path(self, number: int) -> Path:
        path = shard_path(self.path, number)
        if not path.is_file():
            raise IntegrityError(
                f"Reading the zoo {self.path}: the shard {path.name} that its index names is missing. "
                "Try: the command that made it again, which rebuilds only what is missing."
            )
        return path


def open_zoo(path: str | Path) -> Zoo:
    """Open a zoo for reading.

    Raises:
        FileError: the folder is no zoo, or its build did not end.
        IntegrityError: its index cannot be read.
    """
    return Zoo(path)


def read_json(path: Path) -> Any:
    """The plain data in a JSON file. Raises IntegrityError for what is no JSON, OSError where none is there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"Reading {path}: it is no JSON ({error}).") from error


def recipe_sha256(recipe: Mapping[str, Any]) -> str:
    """The identity of a recipe: sha256 (hex) of its JSON, keys sorted."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shard_path(zoo: Path, number: int) -> Path:
    """Where the weights of a shard lie in the folder of a zoo; its rows lie beside them, in .parquet."""
    return zoo / "shards" / f"shard-{number:05d}.safetensors"
