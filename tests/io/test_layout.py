"""Splitting and fusing keep the update."""

import pytest
import torch

from lorascope.core import LowRank
from lorascope.errors import LayerError
from lorascope.io.layout import fuse, is_block_sparse, is_splittable, split, turn
from tests.core.updates import KINDS, made


def pair(n, m, r, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(n, r, generator=generator), torch.randn(m, r, generator=generator))


def test_split_is_exact_and_shares_the_inputs():
    fused = pair(12, 5, 3)
    parts = split(fused, (4, 4, 4))
    torch.testing.assert_close(torch.cat([part.dense() for part in parts]), fused.dense())
    assert all(part.v.data_ptr() == fused.v.data_ptr() for part in parts)


def test_fuse_is_the_way_back():
    parts = [pair(4, 5, 2, seed) for seed in range(3)]
    fused = fuse(parts)
    assert fused.rank == 6
    torch.testing.assert_close(fused.dense(), torch.cat([part.dense() for part in parts]))
    assert is_block_sparse(fused, (4, 4, 4))
    for part, again in zip(parts, split(fused, (4, 4, 4)), strict=True):
        assert again.rank == 2
        torch.testing.assert_close(again.dense(), part.dense())


def test_fusing_what_was_split_keeps_the_rank():
    fused = pair(12, 5, 3)
    again = fuse(split(fused, (4, 4, 4)))
    assert again.rank == 3
    torch.testing.assert_close(again.dense(), fused.dense())


def test_ranks_that_are_no_multiple_and_zero_updates_are_not_block_sparse():
    assert not is_block_sparse(pair(12, 5, 4), (4, 4, 4))
    assert not is_block_sparse(LowRank(torch.zeros(12, 3), torch.ones(5, 3)), (4, 4, 4))
    broken = fuse([pair(4, 5, 2, seed) for seed in range(3)])
    broken.u[11, 0] = 1.0
    assert not is_block_sparse(broken, (4, 4, 4))


def test_what_cannot_be():
    with pytest.raises(LayerError, match="add up to 12"):
        split(pair(12, 5, 3), (4, 4))
    with pytest.raises(LayerError, match="same inputs"):
        fuse([pair(4, 5, 2), pair(4, 6, 2)])


NATIVE = [kind for kind in KINDS if kind != "pair"]


@pytest.mark.parametrize("kind", NATIVE)
def test_native_updates_are_split_and_turned_exactly(kind, generator):
    update = made(kind, generator)
    for sizes in ((6, 6), (8, 4), (4, 4, 4), (5, 7)):
        parts = split(update, sizes)
        torch.testing.assert_close(torch.cat([part.dense() for part in parts]), update.dense())
        kept = all(type(part) is type(update) for part in parts)
        assert kept == is_splittable(update, sizes)
        assert not is_block_sparse(update, sizes)
    first, second = update.dense().chunk(2)
    torch.testing.assert_close(turn(update).dense(), torch.cat([second, first]))


def test_odd_rows_are_not_turned():
    odd = pair(5, 4, 2)
    assert turn(odd) is odd
    torch.testing.assert_close(
        turn(pair(4, 3, 2)).dense(), torch.cat(pair(4, 3, 2).dense().chunk(2)[::-1])
    )
