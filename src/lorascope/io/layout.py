"""Fused and split projections: one (n, m) matrix of q, k and v under each other, or three matrices.

    split   u = [u_q; u_k; u_v], v shared             exact, ranks stay
    fuse    u = diag(u_q, u_k, u_v), v = [v_q v_k v_v]    exact, ranks add up; stay where v is one and the same

A fused LoRA that was trained as separate ones has a block-sparse u; its pieces are cut out at their own rank.
"""

from collections.abc import Sequence

import torch

from lorascope.core.low_rank import LowRank
from lorascope.errors import LayerError

__all__ = ["fuse", "is_block_sparse", "split"]


def split(pair: LowRank, sizes: Sequence[int]) -> list[LowRank]:
    """The pairs of the parts of a fused matrix, by their rows. Raises LayerError if sizes do not add up."""
    if sum(sizes) != pair.n:
        raise LayerError(
            f"Splitting {pair!r} into rows {list(sizes)}: expected them to add up to {pair.n}."
        )
    parts = torch.split(pair.u, list(sizes))
    if not is_block_sparse(pair, sizes):
        return [LowRank(u, pair.v, pair.kernel) for u in parts]
    width = pair.rank // len(sizes)
    return [
        LowRank(
            u[:, k * width : (k + 1) * width], pair.v[:, k * width : (k + 1) * width], pair.kernel
        )
        for k, u in enumerate(parts)
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


def is_block_sparse(pair: LowRank, sizes: Sequence[int]) -> bool:
    """Whether the rows of each part use only their own share of the columns."""
    if pair.rank % len(sizes):
        return False
    width, start = pair.rank // len(sizes), 0
    if bool(pair.u[0, width:].any()) or not bool(pair.u.any()):
        return False  # nearly all files are told by one row
    for k, size in enumerate(sizes):
        rows = pair.u[start : start + size]
        if bool(rows[:, : k * width].any()) or bool(rows[:, (k + 1) * width :].any()):
            return False
        start += size
    return True
