"""Kronecker products: what their factors may be, and what no change of gauge alters."""

import pytest
import torch

from lorascope.core import Kronecker, LowRank
from lorascope.errors import LayerError
from tests.conftest import random_pair
from tests.core.updates import matrix


@pytest.mark.parametrize(
    ("w1", "w2", "kernel", "message"),
    [
        (torch.ones(2), torch.ones(2, 2), (), "expected matrices or pairs"),
        (torch.ones(2, 2).half(), torch.ones(2, 2), (), "of one floating type"),
        (torch.ones(2, 2).int(), torch.ones(2, 2).int(), (), "of one floating type"),
        (torch.ones(2, 2), torch.ones(2, 2), (3,), "no multiple of the kernel"),
    ],
)
def test_factors_that_do_not_go_together(w1, w2, kernel, message):
    with pytest.raises(LayerError, match=message):
        Kronecker(w1, w2, kernel)


def test_a_negative_rank_is_refused():
    with pytest.raises(LayerError, match="rank -1"):
        Kronecker(torch.ones(2, 2), torch.ones(2, 2)).truncate(-1)


def test_no_change_of_gauge_alters_anything(generator):
    """(w1 c, w2 / c), and (u g, v g^-T) of each factor, are the same update."""
    one, two = random_pair(3, 4, 2, generator), random_pair(5, 2, 2, generator)
    g = torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    moved = LowRank(one.u @ g * 3, one.v @ torch.linalg.inv(g).T)
    first, second = Kronecker(one, two), Kronecker(moved, two * (1 / 3))
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(second.dense(), first.dense(), **close)
    torch.testing.assert_close(second.norm(), first.norm(), **close)
    torch.testing.assert_close(second.singular_values(), first.singular_values(), **close)
    torch.testing.assert_close(second.cosine(first), torch.ones(()).double(), **close)


def test_cuts_of_another_place_are_compared_all_the_same(generator):
    a = Kronecker(matrix(2, 6, generator), matrix(6, 3, generator))
    b = Kronecker(matrix(6, 3, generator), random_pair(2, 6, 1, generator))
    expected = (a.dense() * b.dense()).sum()
    torch.testing.assert_close(a.inner(b), expected)
    torch.testing.assert_close(b.inner(a), expected)


def test_norms_and_spectra_of_what_could_never_be_expanded(generator):
    huge = Kronecker(matrix(100, 100, generator), matrix(5000, 20, generator))
    assert huge.shape == (500_000, 2000)
    torch.testing.assert_close(huge.norm(), huge.w1.norm() * huge.w2.norm())
    assert huge.singular_values().shape == (2000,)
    assert huge.truncate(2).pair.rank == 2
    assert huge.matvec(torch.ones(2000).double()).shape == (500_000,)
    for step in (huge.to_low_rank, huge.dense):
        with pytest.raises(LayerError, match=r"Expanding Kronecker.*expected at most 268435456"):
            step()
