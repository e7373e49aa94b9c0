"""Writing a zoo shard by shard, so that what has its shard outlives a kill and a full disk.

A shard is complete when both its weights and its rows are in place, each renamed there whole. `finish` makes
the index from the complete shards, whatever the order they came in, so an interrupted and resumed build ends
with the same bytes as an undisturbed one. What the system refuses (the disk is full) is a FileError that names
the file; nothing half-written is left. Reading is shards.py's.
"""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from lorascope.core import LoRA, Signature
from lorascope.errors import DataError, FileError, FormatError, sentence
from lorascope.io.digest import file_sha256
from lorascope.io.folds import SPLITS
from lorascope.io.provenance import dump_provenance
from lorascope.io.shard_file import lora_digest, sync, write_shard
from lorascope.io.shards import Zoo, read_json, recipe_sha256, shard_path

__all__ = [
    "RECIPE_DIGEST",
    "SHARD_DIGEST",
    "ZooWriter",
    "index_of",
    "write_bytes",
    "write_json",
    "write_text",
]

# in the metadata of a shard's rows: what its weights and the zoo's recipe hash to
SHARD_DIGEST, RECIPE_DIGEST = b"shard_sha256", b"recipe_sha256"
BEGUN = "recipe.json.part"  # all that a build which was killed at once may have left
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the disk, of a quota, of a file


class ZooWriter:
    """Writes a zoo shard by shard.

    Args:
        path: the folder; made if it is not there, resumed if it holds the same recipe.
        recipe: what makes the zoo, plain data; "targets" in it names the labels that can be predicted.

    Raises:
        FileError: the folder holds a zoo of another recipe, or something else; or it cannot be written.
    """

    def __init__(self, path: str | Path, recipe: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.recipe = dict(recipe)
        self._begin()

    def has_shard(self, number: int) -> bool:
        """Whether a shard is complete: its weights and its rows are both there."""
        return self._weights(number).exists() and self._rows(number).exists()

    def add_shard(
        self,
        number: int,
        loras: Sequence[LoRA],
        rows: Sequence[Mapping[str, Any]],
        *,
        signature: Signature | None = None,
    ) -> None:
        """Write one shard: LoRAs of one signature, with a row of the index for each.

        Args:
            number: which shard; writing it again replaces it.
            loras: its LoRAs, all stored at the largest rank that occurs among them.
            rows: for each the `id`, `seed`, `group` and the hyper:* and label:* columns.
            signature: the zoo's layers; the first LoRA's by default.

        Raises:
            DataError: the numbers of LoRAs and rows differ, or there are none.
            FileError: it cannot be written (the disk is full); nothing of it is left.
        """
        if not loras or len(loras) != len(rows):
            raise DataError(
                f"Adding shard {number} to {self.path}: found {len(loras)} LoRAs and {len(rows)} rows, "
                "expected as many of both and at least one."
            )
        signature = signature or loras[0].signature()
        with self._whole(number):
            self._add(number, loras, rows, signature)

    def _add(
        self,
        number: int,
        loras: Sequence[LoRA],
        rows: Sequence[Mapping[str, Any]],
        signature: Signature,
    ) -> None:
        rank = max(lora.max_rank for lora in loras)
        write_shard(self._weights(number), loras, signature, rank=rank)
        full = [
            {
                **row,
                "sha256": lora_digest(lora),
                "shard": number,
                "row": place,
                "rank": lora.max_rank,
                "provenance": dump_provenance(lora.provenance),
            }
            for place, (lora, row) in enumerate(zip(loras, rows, strict=True))
        ]
        digests = {
            SHARD_DIGEST: file_sha256(self._weights(number)),
            RECIPE_DIGEST: recipe_sha256(json.loads(json.dumps(self.recipe))),
        }
        # pyarrow takes the names of the first row alone: what only later rows have would be lost
        names = dict.fromkeys(name for row in full for name in row)
        table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in full])
        _write_table(self._rows(number), table.replace_schema_metadata(digests))

    @contextlib.contextmanager
    def _whole(self, number: int) -> Iterator[None]:
        """A shard is written whole, or its halves are removed and build.jsonl says why."""
        try:
            yield
        except (OSError, SafetensorError, FormatError) as error:
            for path in (self._weights(number), self._rows(number)):
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".part").unlink(missing_ok=True)
            with contextlib.suppress(FileError):
                self.log(event="not written", shard=number, problem=str(error))
            raise FileError(
                f"Writing shard {number} of the zoo {self.path}: {error}{_room(self.path)}. Nothing of it "
                "is left, the shards before it are whole. Try: free space on the disk, then the same "
                "command again: it goes on."
            ) from error

    def finish(self, report: Mapping[str, Any] | None = None) -> "Zoo":
        """Make the index from the shards that are there, write splits and report, and open the zoo.

        Raises:
            DataError: there is no shard.
            FileError: something cannot be written (the disk is full); the shards are whole.
        """
        numbers = sorted(
            int(path.stem.split("-")[1]) for path in (self.path / "shards").glob("shard-*.parquet")
        )
        tables = [pq.read_table(self._rows(n)) for n in numbers if self.has_shard(n)]
        if not tables:
            raise DataError(
                f"Finishing the zoo {self.path}: no shard is there, so every LoRA failed or none was "
                "built. Try: look into build.jsonl."
            )
        with _written(self.path / "index.parquet"):
            _write_table(self.path / "index.parquet", index_of(tables))
        write_json(self.path / "splits.json", SPLITS)
        if report is not None:
            write_json(self.path / "report.json", report)
        return Zoo(self.path)

    def log(self, **event: Any) -> None:
        """Append one event to build.jsonl: times, hosts, failures.

        A line that a kill or a full disk tore stays alone on its line, so that it spoils no other.

        Raises FileError where it cannot be written.
        """
        path, line = self.path / "build.jsonl", json.dumps(event).encode() + b"\n"
        with _written(path, len(line)), path.open("ab+") as file:
            size = file.seek(0, 2)
            if size:
                file.seek(size - 1)
            torn = size > 0 and file.read(1) != b"\n"
            file.write((b"\n" if torn else b"") + line)

    def _begin(self) -> None:
        recipe_path = self.path / "recipe.json"
        if recipe_path.exists():
            found = read_json(recipe_path)
            if found != json.loads(json.dumps(self.recipe)):
                differing = sorted(
                    key
                    for key in {*found, *self.recipe}
                    if found.get(key) != json.loads(json.dumps(self.recipe.get(key)))
                )
                raise FileError(
                    f"Writing a zoo to {self.path}: it holds one of another recipe (they differ in "
                    f"{differing}). A recipe never changes. Try: another folder."
                )
        elif self.path.exists() and any(f.name != BEGUN for f in self.path.iterdir()):
            raise FileError(
                f"Writing a zoo to {self.path}: the folder holds other files and no recipe.json. "
                "Nothing is overwritten. Try: another folder."
            )
        # the recipe before all else: a folder that holds anything and no recipe is somebody else's
        with _written(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if not recipe_path.exists():
            write_json(recipe_path, self.recipe)
        with _written(self.path / "shards"):
            (self.path / "shards").mkdir(exist_ok=True)
        for left in (*self.path.glob("*.json.part"), *self.path.glob("*.parquet.part")):
            left.unlink(missing_ok=True)
        for left in (self.path / "shards").glob("*.part"):
            left.unlink(missing_ok=True)

    def _weights(self, number: int) -> Path:
        return shard_path(self.path, number)

    def _rows(self, number: int) -> Path:
        return shard_path(self.path, number).with_suffix(".parquet")


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, atomically. Raises FileError where it cannot be written."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically. Raises FileError where it cannot be written."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically. Raises FileError where it cannot be written."""
    part = path.with_name(path.name + ".part")
    with _written(path, len(content)):
        part.write_bytes(content)
        sync(part)
        part.replace(path)


@contextlib.contextmanager
def _written(path: Path, needed: int | None = None) -> Iterator[None]:
    """What the system refuses to write is told, and what was half-written goes.

    Args:
        needed: bytes, where they are known.
    """
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(path.name + ".part").unlink(missing_ok=True)
        full = error.errno in FULL
        room = _room(path.parent, needed) if full else ""
        advice = "free space on the disk" if full else "another folder, or the right to write there"
        raise FileError(
            f"Writing {path}: {sentence(error)}{room}. What was whole is kept. Try: {advice}, then the "
            "same command again: it goes on."
        ) from error


def _room(folder: Path, needed: int | None = None) -> str:
    """How much room there is on the disk of a folder, and how much is needed where that is known."""
    expected = "" if needed is None else f", expected {needed:,}"
    try:
        return f" (found {shutil.disk_usage(folder).free:,} bytes free{expected})"
    except OSError:
        return ""


def _write_table(path: Path, table: pa.Table) -> None:
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part)
    sync(part)
    part.replace(path)


def index_of(tables: Sequence[pa.Table]) -> pa.Table:
    """The index that the rows of all shards make, in the order of the ids."""
    plain = [table.replace_schema_metadata(None) for table in tables]
    return _in_order(pa.concat_tables(plain, promote_options="permissive").sort_by("id"))


def _in_order(table: pa.Table) -> pa.Table:
    """The fixed columns first, then hyper:* and label:*, provenance last."""
    first = ["id", "seed", "group", "sha256", "shard", "row", "rank"]
    rest = sorted(set(table.column_names) - {*first, "provenance"})
    return table.select([*[n for n in first if n in table.column_names], *rest, "provenance"])
