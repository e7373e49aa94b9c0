"""What goes into and comes out of reading one module: its tensors by slot, and its update.

A slot is a tensor's part in its algorithm, free of how a file spells it:

    down (r, m)  up (n, r)  mid (r, r, k..)  alpha ()        LoRA, LoCon
    hada_w1_a ..  hada_t1 ..  alpha                          LoHa
    lokr_w1 | lokr_w1_a, lokr_w1_b ..  lokr_t2  alpha        LoKr
    a1 a2 b1 b2 [bm]  alpha                                  GLoRA
    dora  up_bias  diff  diff_b  w_norm  b_norm  ..          beside or instead of a pair

The scale follows one rule, alpha/r with the rank of the tensors; an alpha that is absent or 0 counts as r.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorascope.core import LowRank, Scale, Side, Update
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.factors import as_float
from lorascope.io.room import Room

__all__ = ["NO_ALPHA", "Built", "Parts", "alpha_scale", "join"]

NO_ALPHA = "1 (no alpha)"
MAX_WIDTH = 1 << 20  # rows or columns of a matrix that the file holds as a product


@dataclass(frozen=True, eq=False)
class Parts:
    """The tensors of one module.

    Args:
        layer: its name, for messages.
        slots: its tensors.
        where: the file, for messages.
        scale: the scale, where it is not alpha/r of the slots.
        lone: no module of the file has an "up": a "down" is then a whole matrix.
        room: what the modules of the file may expand to.
    """

    layer: str
    slots: Mapping[str, Tensor]
    where: str
    scale: Scale | None = None
    lone: bool = False
    room: Room = field(default_factory=Room)

    def __contains__(self, slot: str) -> bool:
        return slot in self.slots

    def factor(self, slot: str) -> Tensor:
        """The tensor of a slot, floating. Raises FormatError if it is missing or holds no numbers."""
        tensor = self.slots.get(slot)
        if tensor is None:
            shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in self.slots.items())
            raise FormatError(
                f"Reading layer {self.layer!r} of {self.where!r}: found {shapes}, expected {slot} beside it. "
                "The file is incomplete. Try: save the adapter again."
            )
        if tensor.ndim < 2 or not tensor.numel():
            raise self.misfit(slot)
        return as_float(tensor, f"{self.layer}.{slot}", self.where)

    def matrix(self, slot: str) -> Tensor:
        """A factor as (p, prod q..), in a type that its products with the module's other factors have."""
        return self.factor(slot).flatten(1).to(self.wide)

    @property
    def wide(self) -> torch.dtype:
        """At least single precision: products of half-precision factors overflow."""
        double = any(tensor.dtype == torch.float64 for tensor in self.slots.values())
        return torch.float64 if double else torch.float32

    def misfit(self, *slots: str) -> FormatError:
        """The error that the shapes of some slots do not go together."""
        found = " and ".join(f"{slot} {list(self.slots[slot].shape)}" for slot in slots)
        return FormatError(
            f"Reading layer {self.layer!r} of {self.where!r}: found {found}, which do not go together. "
            "Expected the factors of one update, with one rank. Shards that were not gathered look like this."
        )

    def room_for(self, *sizes: int) -> None:
        """Takes room for a factor of these sizes. Raises HostileFileError if the file has none left."""
        self.room.take(self.layer, self.where, math.prod(sizes), self.wide.itemsize)

    def check_width(self, n: int, m: int) -> None:
        """Raises HostileFileError if a product of factors claims more rows or columns than any real matrix."""
        if max(n, m) > MAX_WIDTH:
            raise HostileFileError(
                f"Reading layer {self.layer!r} of {self.where!r}: its factors claim an update of {n} x {m}, "
                f"expected at most {MAX_WIDTH} rows and columns."
            )


@dataclass(frozen=True, eq=False)
class Built:
    """What one module's tensors are.

    Args:
        pair: the update, as a pair or in its native factors; None where the file holds none.
        scale: what was folded into it.
        side: tensors beside it, by the ending of their name.
        kind: what the layer is where it is no plain matrix.
        notes: facts, as code -> sentence.
        left: what the file alone cannot turn into an update and why, as code -> sentence.
        used: the slots that the algorithm knows.
        doubts: what the file leaves open, as code -> sentence.
    """

    pair: Update | None = None
    scale: Scale | None = None
    side: Mapping[str, Side] = field(default_factory=dict)
    kind: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    doubts: Mapping[str, str] = field(default_factory=dict)


def alpha_scale(parts: Parts, rank: int) -> Scale:
    """alpha/r; an alpha that is absent or 0 counts as r. Raises FormatError for an alpha of several values."""
    if parts.scale is not None:
        return parts.scale
    tensor = parts.slots.get("alpha")
    if tensor is None:
        return Scale(None, rank, 1.0, NO_ALPHA)
    if tensor.numel() != 1:
        raise parts.misfit("alpha")
    alpha = float(tensor)
    return Scale(alpha, rank, alpha / rank if alpha else 1.0, "alpha/r")


def join(u: Tensor, v: Tensor, kernel: tuple[int, ...] = ()) -> LowRank:
    """The pair of two factors, in the wider of their types."""
    if u.dtype != v.dtype:
        dtype = torch.promote_types(u.dtype, v.dtype)
        u, v = u.to(dtype), v.to(dtype)  # which copies one of them
    return LowRank(u, v, kernel)
