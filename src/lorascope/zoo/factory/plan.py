"""Which LoRAs of a zoo train together, and which of these groups are still to build.

The history of counts (`counts.json`) cuts the indices into ranges: [0, 512) of the first call,
[512, 800) of a later one that asked for 800. Groups never cross a range, so that what is there
keeps its bytes when a zoo grows; within a range they are a pure function of the recipe.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorascope.errors import IntegrityError
from lorascope.io.shard_writer import write_json
from lorascope.io.shards import read_json
from lorascope.zoo.engine.language.group import arrange
from lorascope.zoo.factory.family import Family, shape_of

__all__ = ["Group", "counts_of", "groups_of"]

WINDOW = 2048  # indices that are sorted together: more waits longer for the first group


@dataclass(frozen=True)
class Group:
    """LoRAs that train together and share a shard."""

    number: int  # of the shard
    indices: tuple[int, ...]


def counts_of(folder: Path, count: int) -> list[int]:
    """The history of counts of a zoo, with `count` at its end if that is more than there was.

    Raises:
        IntegrityError: the history that is there is no rising list of numbers.
    """
    path = folder / "counts.json"
    counts = read_json(path) if path.is_file() else []
    rising = isinstance(counts, list) and all(isinstance(c, int) for c in counts)
    if not rising or counts != sorted(set(counts)):
        raise IntegrityError(
            f"resuming the zoo {folder}: counts.json holds {str(counts)[:80]}, expected a rising "
            "list of numbers. Try another folder"
        )
    if not counts or count > counts[-1]:
        counts.append(count)
        write_json(path, counts)
    return counts


def groups_of(family: Family, counts: Sequence[int], slots: int) -> Iterator[Group]:
    """All groups of a zoo, window by window, those of most steps first within a window."""
    for start, stop in zip([0, *counts], counts, strict=False):
        for first in range(start, stop, WINDOW):
            yield from _window(family, range(first, min(first + WINDOW, stop)), slots)


def _window(family: Family, indices: range, slots: int) -> list[Group]:
    shapes = [shape_of(family, i) for i in indices]
    groups = [
        (sum(shapes[i].steps * shapes[i].batch_size for i in members), members)
        for members in arrange(shapes, slots)
    ]
    groups.sort(key=lambda pair: -pair[0])  # the longest first: both processes end together
    return [
        Group(indices[0] + i, tuple(sorted(indices[m] for m in members)))
        for i, (_, members) in enumerate(groups)
    ]
