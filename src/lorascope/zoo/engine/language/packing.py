"""Examples of different lengths side by side in rows of one length, so that little is padding.

    aaaaaaaaa
    bbbb.....
    ccc......    ->    aaaaaaaaaee
    dd.......          bbbbcccdd..
    ee.......

A token sees the earlier tokens of its own example alone and stands at its position there, so that an example
is as if it were alone in its row. A row holds examples of one adapter. Of many lengths of rows the one is taken
that leaves least empty; for each, the longest examples come first, each into the fullest row that still holds
it. `packed_lesson.py` trains with it.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ROW", "Packed", "Spread", "pack", "real_lengths", "spread"]

ROW = 256  # tokens that a row may always have: longer rows cost attention, shorter ones leave more empty
TRIED = 4  # numbers of rows for each adapter
SLACKS = (1.01, 1.03)  # beyond what would fill so many rows exactly

Bins = list[list[int]]


@dataclass(frozen=True, eq=False)
class Packed:
    """Which examples of some adapters' batches share a row, in the order in which they stand there."""

    lane: Tensor  # (s,) the adapter of each row
    members: Tensor  # (s, g) places in that adapter's batch, 0 where there is none
    lengths: Tensor  # (s, g) tokens of each, 0 where there is none

    @property
    def width(self) -> int:
        """Tokens of a row."""
        return int(self.lengths.sum(1).max())

    @property
    def real(self) -> int:
        """Tokens of all rows that are no padding."""
        return int(self.lengths.sum())


class Spread(NamedTuple):
    """Things of g owners side by side in a row, so many of each: what stands at each of w places."""

    owner: Tensor  # (s, w) int64, 0 to g - 1
    within: Tensor  # (s, w) which of its owner's things
    used: Tensor  # (s, w) bool: False past the last


def spread(counts: Tensor) -> Spread:
    """Put things side by side. counts: (s, g) -> places of the longest row.

    Example:
        >>> spread(torch.tensor([[2, 0, 1]])).owner, spread(torch.tensor([[2, 0, 1]])).within
        (tensor([[0, 0, 2]]), tensor([[0, 1, 0]]))
    """
    ends = counts.cumsum(1)
    place = torch.arange(int(ends[:, -1].max())).expand(len(counts), -1).contiguous()
    owner = torch.searchsorted(ends, place, right=True).clamp(max=counts.shape[1] - 1)
    within = place - (ends - counts).gather(1, owner)
    return Spread(owner, within, place < ends[:, -1:])


def real_lengths(weights: Tensor) -> Tensor:
    """Tokens of each example that the loss depends on as inputs: all before the last weighted one.

    weights: (e, t) -> (e,) int64.
    """
    places = torch.arange(weights.shape[1], device=weights.device)
    return ((weights > 0) * places).amax(1)


def pack(batches: Sequence[Sequence[int]]) -> Packed:
    """Rows for the batches of some adapters, given the length of each example.

    Args:
        batches: of each adapter the lengths of its examples, 0 for none; an adapter may have no example.

    Example:
        >>> pack([[9, 5, 4, 3], [200, 100]]).members
        tensor([[0, 1, 2, 3],
                [0, 0, 0, 0],
                [1, 0, 0, 0]])
    """
    orders = [_longest_first(batch) for batch in batches]
    best: tuple[int, int, list[Bins]] | None = None
    for capacity in _capacities(batches):
        rows = sum(math.ceil(sum(batch) / capacity) for batch in batches)
        if best is not None and rows * capacity >= best[0]:
            continue
        bins = [_fill(o, b, capacity) for o, b in zip(orders, batches, strict=True)]
        area = capacity * sum(map(len, bins))
        if best is None or area < best[0]:
            best = (area, capacity, bins)
    assert best is not None, "there is no example"
    return _in_rows(batches, best[2])


def _longest_first(lengths: Sequence[int]) -> list[int]:
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [i for i in order if lengths[i]]


def _capacities(batches: Sequence[Sequence[int]]) -> list[int]:
    """Lengths of rows that are worth trying, ascending."""
    longest = max((length for batch in batches for length in batch), default=0)
    most = max(ROW, longest)
    tried: set[int] = set()
    for total in map(sum, batches):
        fewest = max(1, math.ceil(total / most))
        for rows in range(fewest, fewest + TRIED):
            wanted = [math.ceil(total / rows), *(math.ceil(total / rows * s) for s in SLACKS)]
            tried.update(min(most, max(longest, each)) for each in wanted)
    return sorted(tried - {0})


def _fill(order: Sequence[int], lengths: Sequence[int], capacity: int) -> Bins:
    """Each example, in order, into the fullest row that still holds it."""
    room: list[tuple[int, int]] = []  # what is left of a row, its number: ascending
    bins: Bins = []
    for i in order:
        at = bisect.bisect_left(room, (lengths[i], -1))
        if at == len(room):
            left, number = capacity, len(bins)
            bins.append([])
        else:
            left, number = room.pop(at)
        bins[number].append(i)
        bisect.insort(room, (left - lengths[i], number))
    return bins


def _in_rows(batches: Sequence[Sequence[int]], bins: Sequence[Bins]) -> Packed:
    rows = [(lane, members) for lane, each in enumerate(bins) for members in each]
    most = max(len(members) for _, members in rows)
    members, lengths = (torch.zeros(len(rows), most, dtype=torch.int64) for _ in range(2))
    for s, (lane, chosen) in enumerate(rows):
        members[s, : len(chosen)] = torch.tensor(chosen)
        lengths[s, : len(chosen)] = torch.tensor([batches[lane][i] for i in chosen])
    return Packed(torch.tensor([lane for lane, _ in rows]), members, lengths)
