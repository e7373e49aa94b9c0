"""Which LoRAs of a zoo train together, and which of these groups are still to build.

The history of counts (`counts.json`) cuts the indices into ranges: [0, 512) of the first call,
[512, 800) of a later one that asked for 800. Groups never cross a range, so that what is there
keeps its bytes when a zoo grows; within a range they are a pure function of the recipe.

A LoRA whose job fails (its data are bad) harms no other: it is set apart (`apart.json`), a group of its
own from then on, so that its group is made without it and every call tries it again.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorascope.errors import IntegrityError
from lorascope.io.shard_writer import write_json
from lorascope.io.shards import read_json
from lorascope.zoo.engine.grouping import PER_LANE, JobShape, arrange
from lorascope.zoo.factory.family import Family, label_rows_of, shape_of

__all__ = ["Group", "apart_of", "counts_of", "groups_of", "plan_zoo", "set_apart"]

WINDOW = 2048  # indices that are sorted together: more waits longer for the first group
APART = "apart.json"  # index -> at what it failed, in the order in which they were found
SHAPE, JOB = "shape", "job"


@dataclass(frozen=True)
class Group:
    """LoRAs that train together and share a shard."""

    number: int  # of the shard
    indices: tuple[int, ...]
    problem: str = ""  # why it cannot be planned


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


def apart_of(folder: Path) -> dict[int, str]:
    """The LoRAs of a zoo that are set apart, and at what each failed: its `shape` or its `job`.

    Raises:
        IntegrityError: what is there is no such table.
    """
    path = folder / APART
    read = read_json(path) if path.is_file() else {}
    if not isinstance(read, dict) or not all(
        k.isdigit() and v in (SHAPE, JOB) for k, v in read.items()
    ):
        raise IntegrityError(
            f"resuming the zoo {folder}: {APART} holds {str(read)[:80]}, expected indices with "
            f"{SHAPE!r} or {JOB!r}. Try another folder"
        )
    return {int(index): why for index, why in read.items()}


def set_apart(folder: Path, indices: Sequence[int], why: str = JOB) -> None:
    """Write down that LoRAs are made alone from now on."""
    known = apart_of(folder)
    write_json(folder / APART, known | dict.fromkeys(indices, why))


def plan_zoo(
    family: Family,
    folder: Path,
    counts: Sequence[int],
    slots: int,
    has_shard: Callable[[int], bool],
    per_lane: int = PER_LANE,
) -> list[Group]:
    """All groups of a zoo; who cannot be planned is set apart.

    Where a part of the zoo is built already and one of its LoRAs can no longer be planned, the rest of that
    part waits for it: its groups have a `problem` and are not to be made.
    """
    apart = apart_of(folder)
    groups = list(groups_of(family, counts, slots, apart, per_lane))
    lost = [g.indices[0] for g in groups if g.problem and apart.get(g.indices[0]) != SHAPE]
    for window in _windows(counts):
        new = [index for index in lost if index in window]
        if new and any(has_shard(number) for number in window):
            why = next(g.problem for g in groups if g.indices[0] == new[0])
            groups = [g for g in groups if g.number not in window]
            groups.append(Group(window[0], tuple(window), why))
        elif new:
            set_apart(folder, new, SHAPE)
            groups = [replace(g, problem="") if g.indices[0] in new else g for g in groups]
    return groups


def groups_of(
    family: Family,
    counts: Sequence[int],
    slots: int,
    apart: Mapping[int, str] | None = None,
    per_lane: int = PER_LANE,
) -> Iterator[Group]:
    """All groups of a zoo, window by window, those of most work first within a window.

    Args:
        apart: the LoRAs that are set apart (see `apart_of`).
    """
    for window in _windows(counts):
        yield from _window(family, window, slots, apart or {}, per_lane)


def _windows(counts: Sequence[int]) -> Iterator[range]:
    for start, stop in zip([0, *counts], counts, strict=False):
        for first in range(start, stop, WINDOW):
            yield range(first, min(first + WINDOW, stop))


def _window(
    family: Family, indices: range, slots: int, apart: Mapping[int, str], per_lane: int
) -> list[Group]:
    """Groups are numbered from the front of the window, LoRAs set apart from its end: they never meet."""
    shapes, problems = _shapes(family, [i for i in indices if apart.get(i) != SHAPE])
    known = list(shapes)
    groups = []
    for places in arrange(list(shapes.values()), slots, per_lane):
        members = sorted(known[place] for place in places)
        work = sum(shapes[i].steps * shapes[i].batch_size + label_rows_of(family) for i in members)
        groups.append((work, members))
    groups.sort(key=lambda pair: -pair[0])  # the longest first: all processes end together
    made = []
    for place, (_, members) in enumerate(groups):
        kept = tuple(i for i in members if i not in apart)
        if kept:
            made.append(Group(indices[0] + place, kept))
    lone = [i for i in (*apart, *(i for i in problems if i not in apart)) if i in indices]
    return made + [
        Group(indices[-1] - place, (i,), problems.get(i, "")) for place, i in enumerate(lone)
    ]


def _shapes(family: Family, indices: Sequence[int]) -> tuple[dict[int, JobShape], dict[int, str]]:
    """The shape of each LoRA, or why it has none."""
    shapes, problems = {}, {}
    for index in indices:
        try:
            shapes[index] = shape_of(family, index)
        except Exception:  # whatever the family's own code raises
            problems[index] = traceback.format_exc()
    return shapes, problems
