"""Entrywise products: what their pairs may be, and what no change of gauge alters."""

import pytest
import torch

from lorascope.core import Hadamard, LowRank
from lorascope.core import hadamard as hadamard_module
from lorascope.errors import LayerError
from tests.conftest import random_pair
from tests.core.updates import product


@pytest.mark.parametrize("other", [
    LowRank(torch.ones(3, 1), torch.ones(5, 1)),
    LowRank(torch.ones(3, 1).half(), torch.ones(4, 1).half()),
    LowRank(torch.ones(3, 1), torch.ones(4, 1), (2,)),
])  # fmt: skip
def test_pairs_that_do_not_go_together(other):
    with pytest.raises(LayerError, match="Making an entrywise product"):
        Hadamard(LowRank(torch.ones(3, 1), torch.ones(4, 1)), other)


def test_no_change_of_gauge_alters_anything(generator):
    first = product(6, 8, 2, 2, generator)
    g = torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    moved = LowRank(first.one.u @ g * 3, first.one.v @ torch.linalg.inv(g).T)
    second = Hadamard(first.two * (1 / 3), moved)  # and the two may change places
    torch.testing.assert_close(second.dense(), first.dense())
    torch.testing.assert_close(second.norm(), first.norm())
    torch.testing.assert_close(second.singular_values(), first.singular_values())
    torch.testing.assert_close(second.cosine(first), torch.ones(()).double())


def test_blocks_change_nothing(generator, monkeypatch):
    update, pair = product(7, 5, 2, 2, generator), random_pair(7, 5, 3, generator)
    whole = update.norm(), update.inner(pair)
    monkeypatch.setattr(hadamard_module, "BLOCK_VALUES", 12)
    assert [len(rows) for rows in update.row_blocks()] == [2, 2, 2, 1]
    torch.testing.assert_close((update.norm(), update.inner(pair)), whole)


def test_rank_zero_is_the_zero_update(generator):
    empty = product(4, 3, 0, 2, generator)
    assert (empty.rank, float(empty.norm()), float(empty.effective_rank())) == (0, 0.0, 0.0)
    assert empty.to_low_rank().rank == 0
