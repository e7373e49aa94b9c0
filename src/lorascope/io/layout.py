"""Fused and split projections: one (n, m) matrix of q, k and v under each other, or three matrices.

    split   u = [u_q; u_k; u_v], v shared             exact, ranks stay
    fuse    u = diag(u_q, u_k, u_v), v = [v_q v_k v_v]    exact, ranks add up; stay where v is one and the same
    turn    the halves of the rows in the other order

A fused LoRA that was trained as separate ones has a block-sparse u; its pieces are cut out at their own rank.
An entrywise product is split in both its u. A Kronecker product is split in the rows of w1, where the parts
are multiples of w2's height (`is_splittable`); elsewhere only its pair can be split.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lorascope.core import Hadamard, Kronecker, LowRank, Update
from lorascope.errors import LayerError

__all__ = ["fuse", "is_block_sparse", "is_splittable", "split", "turn"]


def split(update: Update, sizes: Sequence[int]) -> list[Update]:
    """The updates of the parts of a fused matrix, by their rows.

    Raises LayerError if sizes do not add up, or a pair would have to be made that does not fit into memory.
    """
    if sum(sizes) != update.n:
        raise LayerError(
            f"Splitting {update!r} into rows {list(sizes)}: expected them to add up to {update.n}."
        )
    if isinstance(update, Kronecker) and is_splittable(update, sizes):
        rows = [size // update.w2.shape[0] for size in sizes]
        w1 = update.w1
        parts = _rows(w1, rows) if isinstance(w1, LowRank) else torch.split(w1, rows)
        return [replace(update, w1=part) for part in parts]
    if isinstance(update, Hadamard):
        ones, twos = _rows(update.one, sizes), _rows(update.two, sizes)
        return [Hadamard(one, two) for one, two in zip(ones, twos, strict=True)]
    pair = update.to_low_rank()
    if not is_block_sparse(pair, sizes):
        return [*_rows(pair, sizes)]
    width = pair.rank // len(sizes)
    return [
        LowRank(
            u[:, k * width : (k + 1) * width], pair.v[:, k * width : (k + 1) * width], pair.kernel
        )
        for k, u in enumerate(torch.split(pair.u, list(sizes)))
    ]


def fuse(pairs: Sequence[LowRank]) -> LowRank:
    """The pair of the matrices under each other. Raises LayerError if their inputs differ."""
    first = pairs[0]
    if any(pair.m != first.m or pair.kernel != first.kernel for pair in pairs):
        raise LayerError(f"Fusing {list(pairs)}: expected matrices of the same inputs.")
    if all(pair.rank == first.rank and torch.equal(pair.v, first.v) for pair in pairs[1:]):
        return LowRank(torch.cat([pair.u for pair in pairs]), first.v, first.kernel)
    u: torch.Tensor = torch.block_diag(*(pair.u for pair in pairs))  # type: ignore[no-untyped-call]
    return LowRank(u, torch.cat([pair.v for pair in pairs], dim=1), first.kernel)


def turn(update: Update) -> Update:
    """The update with the two halves of its rows in the other order; as it is where they are odd."""
    if update.n % 2:
        return update
    if isinstance(update, Hadamard):
        return Hadamard(*(replace(x, u=_turned(x.u)) for x in (update.one, update.two)))
    if isinstance(update, Kronecker) and is_splittable(update, [update.n // 2] * 2):
        w1 = update.w1
        turned = replace(w1, u=_turned(w1.u)) if isinstance(w1, LowRank) else _turned(w1)
        return replace(update, w1=turned)
    pair = update.to_low_rank()
    return replace(pair, u=_turned(pair.u))


def is_block_sparse(update: Update, sizes: Sequence[int]) -> bool:
    """Whether it is a pair in which the rows of each part use only their own share of the columns."""
    if not isinstance(update, LowRank) or update.rank % len(sizes):
        return False
    width, start = update.rank // len(sizes), 0
    if bool(update.u[0, width:].any()) or not bool(update.u.any()):
        return False  # nearly all files are told by one row
    for k, size in enumerate(sizes):
        rows = update.u[start : start + size]
        if bool(rows[:, : k * width].any()) or bool(rows[:, (k + 1) * width :].any()):
            return False
        start += size
    return True


def is_splittable(update: Update, sizes: Sequence[int]) -> bool:
    """Whether the parts of an update are of its own kind, and no larger."""
    if not isinstance(update, Kronecker):
        return True
    return all(size % update.w2.shape[0] == 0 for size in sizes)


def _rows(pair: LowRank, sizes: Sequence[int]) -> list[LowRank]:
    """Blocks of rows; u is a view of the whole, v is shared."""
    return [replace(pair, u=u) for u in torch.split(pair.u, list(sizes))]


def _turned(rows: Tensor) -> Tensor:
    """The second half of the rows before the first."""
    return torch.cat(rows.chunk(2)[::-1])
