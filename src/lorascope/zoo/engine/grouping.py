"""Which jobs train together, whatever the base: those of like examples, in groups of like work.

Jobs of the same batch size and length share a group; each lane of it trains several, one after
another (`timeline.py`). A batch of 16 rows is two slots of 8 rows with the same adapter:
rows then have one shape whatever the batch size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PER_LANE", "JobShape", "arrange", "lanes_of_group", "rows_of_slot"]

ROWS = 8  # of a slot
PER_LANE = 4  # jobs one after another: more balance better, and tell and save less often


def rows_of_slot(batch_size: int) -> int:
    """Rows of one slot: 8 where the batch size is a multiple, else the whole batch."""
    return ROWS if batch_size % ROWS == 0 else batch_size


def lanes_of_group(batch_size: int, slots: int) -> int:
    """How many adapters of this batch size fill `slots` slots at once."""
    return max(1, slots * rows_of_slot(batch_size) // batch_size)


@dataclass(frozen=True, order=True)
class JobShape:
    """What decides with which others a job trains."""

    batch_size: int
    length: int  # of an example: tokens, or numbers of a latent
    drops: bool  # whether it has dropout
    steps: int


def arrange(shapes: Sequence[JobShape], slots: int, per_lane: int = PER_LANE) -> list[list[int]]:
    """Cut jobs into groups that fill `slots` slots: lists of indices, a pure function of shapes.

    Each lane of a group trains at most `per_lane` jobs, one after another.

    Example:
        >>> arrange([JobShape(8, 20, False, steps) for steps in (30, 10, 20, 40, 50)], slots=1)
        [[1, 0, 4], [2, 3]]
    """
    buckets: dict[tuple[int, int, bool], list[int]] = {}
    for i, shape in enumerate(shapes):
        key = (shape.batch_size, shape.length, shape.drops)
        buckets.setdefault(key, []).append(i)
    groups: list[list[int]] = []
    for key in sorted(buckets):
        members = sorted(buckets[key], key=lambda i: (shapes[i].steps, i))
        count = math.ceil(len(members) / (per_lane * lanes_of_group(key[0], slots)))
        groups += [members[i::count] for i in range(count)]  # dealt: groups of equal work
    return groups
