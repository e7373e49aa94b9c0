"""Factors of small Gram matrices, all three ways: what they are, which are safe, zeros, no numbers."""

import pytest
import torch

from lorascope.symmetry import small_cholesky as module
from lorascope.symmetry.small_cholesky import small_cholesky

FARTHEST = 16.0
WAYS = ("kernel", "at once", "one by one")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    if request.param == "kernel":
        if module.wide_kernel("small_cholesky") is None:
            pytest.skip("no C compiler, or a processor that it is not for")
        monkeypatch.setattr(module, "_by_torch", None)
    monkeypatch.setattr(module, "LEAST", 0 if request.param == "kernel" else 10_000)
    monkeypatch.setattr(module, "FEW_ROWS", 0 if request.param == "one by one" else 8)
    return request.param


def gram(rank: int, count: int = 51) -> torch.Tensor:
    x = torch.randn(count, rank, 20, generator=torch.Generator().manual_seed(0)).double()
    x[0, -1] = 0  # a row of padding
    x[1, -1] = 2 * x[1, 0] + 1e-3 * x[1, -1]  # near the others, where there are any
    return x @ x.mT


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5, 8])
def test_their_squares_are_the_gram_matrices_and_near_rows_are_not_safe(rank, way):
    square = gram(rank)
    upper, safe = small_cholesky(square, FARTHEST)
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close((upper.mT @ upper)[safe], square[safe])
    assert bool(safe[0])
    assert not upper[0, :, -1].any()
    assert bool(safe[1]) == (rank == 1)
    length = square[2:].diagonal(dim1=1, dim2=2).sqrt()
    even = square[2:] / length.unsqueeze(1) / length.unsqueeze(2)
    span = torch.linalg.inv(even).diagonal(dim1=1, dim2=2).amax(1)
    assert torch.equal(safe[2:], span <= FARTHEST)


def test_what_is_no_number_or_too_short_or_no_gram_matrix_is_not_safe(way):
    square = torch.eye(3).double().repeat(20, 1, 1)
    square[1, 2, 1] = square[1, 1, 2] = torch.nan
    square[3, 0, 0] = torch.nan
    square[5] *= 1e-32  # lengths that float32 cannot square
    square[7, 0, 1] = square[7, 1, 0] = 2.0  # negative
    square[9, 0, 1] = square[9, 1, 0] = 1.0  # singular
    square[11] = 0
    upper, safe = small_cholesky(square, FARTHEST)
    assert (~safe).nonzero().flatten().tolist() == [1, 3, 5, 7, 9]
    torch.testing.assert_close(upper[0], square[0])
    assert not upper[11].any()


@pytest.mark.parametrize("count", [0, 1, 8, 9])
def test_any_number_of_matrices(count, way):
    upper, safe = small_cholesky(gram(4)[2 : 2 + count], FARTHEST)
    assert upper.shape == (count, 4, 4)
    assert safe.shape == (count,)
    torch.testing.assert_close(upper, small_cholesky(gram(4), FARTHEST)[0][2 : 2 + count])
