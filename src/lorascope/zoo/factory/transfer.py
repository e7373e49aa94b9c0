"""LoRAs of stored zoos written into another one, bit for bit, in shards of a bounded size.

Which LoRAs share a shard follows from the indexes alone, so a transfer that was killed goes on where it
stopped. Factors, side tensors and provenance stay as they are, and so does each sha256.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lorascope.core.lora import LoRA
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import Zoo

__all__ = ["Taken", "transfer"]

SHARD_LORAS = 256
SHARD_BYTES = 256 * 2**20
WRITTEN = ("sha256", "shard", "row", "rank", "provenance")  # columns that a shard makes itself


@dataclass(frozen=True)
class Taken:
    """A LoRA to take: of which zoo, its place in that index, and what its row becomes."""

    zoo: int
    place: int
    row: Mapping[str, Any]


def transfer(
    zoos: Sequence[Zoo],
    taken: Sequence[Taken],
    writer: ZooWriter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write LoRAs into a zoo; those of complete shards are there already.

    Args:
        progress: called with (done, total) LoRAs.

    Raises:
        IntegrityError: a shard of a source is missing or damaged.
        FileError: the disk is full.
    """
    done = 0
    signature = zoos[0].signature
    for number, members in enumerate(_shards(zoos, taken)):
        if not writer.has_shard(number):
            rows = [plain_row(member.row) for member in members]
            writer.add_shard(number, list(_read(zoos, members)), rows, signature=signature)
        done += len(members)
        progress(done, len(taken))


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what the new shard says of itself."""
    return {name: value for name, value in row.items() if name not in WRITTEN}


def _shards(zoos: Sequence[Zoo], taken: Sequence[Taken]) -> Iterator[list[Taken]]:
    """LoRAs in the order of their sources' shards, cut where a shard is full."""
    width = sum(shape.n + shape.m for shape in zoos[0].signature.layers)
    places = [(zoo.column("shard"), zoo.column("row")) for zoo in zoos]

    def stored(member: Taken) -> tuple[int, int, int]:
        shard, row = places[member.zoo]
        return member.zoo, int(shard[member.place]), int(row[member.place])

    members: list[Taken] = []
    size = 0
    for member in sorted(taken, key=stored):
        rank = int(member.row["rank"])
        added = 4 * rank * width
        if members and (len(members) >= SHARD_LORAS or size + added > SHARD_BYTES):
            yield members
            members, size = [], 0
        members.append(member)
        size += added
    if members:
        yield members


def _read(zoos: Sequence[Zoo], members: Sequence[Taken]) -> Iterator[LoRA]:
    """The LoRAs of members, which stand in the order of their sources' shards."""
    for number, some in groupby(members, key=lambda member: member.zoo):
        for _, lora in zoos[number].loras([member.place for member in some]):
            yield lora
