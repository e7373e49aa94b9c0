"""One shard checked: both files there and whole, hashes as recorded, every value finite."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lorascope.core.lora import LoRA
from lorascope.errors import LorascopeError
from lorascope.io.digest import file_sha256
from lorascope.io.shard_file import lora_digest, read_shard, read_shard_loras
from lorascope.io.shard_writer import SHARD_DIGEST

__all__ = ["Finding", "Shard", "check_shard"]


@dataclass(frozen=True)
class Finding:
    """Something that does not hold: which check, in which file or LoRA, and what."""

    check: str
    place: str
    message: str


class Shard:
    """The two files of one shard, read when asked."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.weights = folder / f"{name}.safetensors"
        self.rows = folder / f"{name}.parquet"

    @cached_property
    def read(self) -> tuple[pa.Table | None, str]:
        """The rows, or None and why."""
        try:
            return pq.read_table(self.rows), ""
        except (pa.ArrowException, OSError) as error:
            return None, str(error)

    @property
    def table(self) -> pa.Table | None:
        """The rows, None where they cannot be read."""
        return self.read[0]

    @property
    def recorded(self) -> str | None:
        """What the weights hashed to when they were written, None where that is not recorded."""
        if self.table is None:
            return None
        stored = (self.table.schema.metadata or {}).get(SHARD_DIGEST)
        return None if stored is None else stored.decode()

    @property
    def bytes_read(self) -> int:
        """Bytes of both files."""
        return sum(p.stat().st_size for p in (self.weights, self.rows) if p.is_file())


def check_shard(shard: Shard) -> Iterator[Finding]:
    """Everything that does not hold of one shard."""
    for path in (shard.weights, shard.rows):
        if not path.is_file():
            yield Finding("shards", path.name, "is missing")
    if shard.table is None:
        if shard.rows.is_file():
            yield Finding("shards", shard.rows.name, f"cannot be read: {shard.read[1]}")
        return
    if not shard.weights.is_file():
        return
    if shard.recorded is not None and file_sha256(shard.weights) != shard.recorded:
        yield Finding("hashes", shard.weights.name, "has not the bytes that were written")
    try:
        loras = read_shard_loras(shard.weights)
        beyond = beyond_rank(shard.weights)
    except (LorascopeError, OSError, ValueError, RuntimeError) as error:
        yield Finding("shards", shard.weights.name, f"cannot be read: {error}")
        return
    if beyond:
        yield Finding("finite", shard.weights.name, "holds values beyond the ranks of its LoRAs")
    yield from check_loras(shard, shard.table, loras)


def check_loras(shard: Shard, table: pa.Table, loras: list[LoRA]) -> Iterator[Finding]:
    """Each LoRA against its row."""
    if len(loras) != table.num_rows:
        found = f"holds {len(loras)} LoRAs, its rows are {table.num_rows}"
        yield Finding("shards", shard.weights.name, found)
        return
    places = table.column("row").to_pylist()
    if sorted(places) != list(range(len(loras))):
        yield Finding(
            "index", shard.rows.name, f"names the places {places[:8]}, expected each once"
        )
        return
    named = zip(
        places, table.column("id").to_pylist(), table.column("sha256").to_pylist(), strict=True
    )
    for place, identity, digest in named:
        lora, where = loras[place], f"{shard.weights.name}, id {identity}"
        found = lora_digest(lora)
        if found != digest:
            message = f"hashes to {found[:12]}, expected {str(digest)[:12]}"
            yield Finding("hashes", where, message)
        if not is_finite(lora):
            yield Finding("finite", where, "holds NaN or Inf")


def is_finite(lora: LoRA) -> bool:
    """Whether every factor and side tensor is finite."""
    pairs = [lora.pair(name) for name in lora]
    tensors = [t for pair in pairs for t in (pair.u, pair.v)]
    tensors += [side.tensor for side in lora.side.values()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def beyond_rank(path: Path) -> bool:
    """Whether a shard holds values that no LoRA of it reaches: columns at or past the true rank."""
    batch = read_shard(path)
    columns = range(batch.rank)
    for shape, group in zip(batch.signature.groups(), batch.groups, strict=True):
        ranks = batch.ranks[:, list(shape.indices)].T  # (l, b)
        for r in columns:
            outside = ranks <= r  # (l, b)
            if bool(group.u[:, :, r][outside].any()) or bool(group.v[:, :, r][outside].any()):
                return True
    return False
