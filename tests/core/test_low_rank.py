"""The algebra on pairs equals the same algebra on dense matrices."""

import pytest
import torch

from lorascope.core import LowRank
from lorascope.core.low_rank import gram_trace
from lorascope.errors import LayerError
from tests.conftest import random_pair

CLOSE = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture(params=[(7, 5, 3), (5, 7, 1), (4, 4, 6), (6, 3, 0), (3, 9, 3)], ids=str)
def pair(request, generator):
    return random_pair(*request.param, generator)


def test_scalars_equal_their_dense_twins(pair, generator):
    other = random_pair(pair.n, pair.m, 2, generator)
    dense, other_dense = pair.dense(), other.dense()
    torch.testing.assert_close(pair.norm(), dense.norm(), **CLOSE)
    torch.testing.assert_close(pair.inner(other), (dense * other_dense).sum(), **CLOSE)
    expected = (dense * other_dense).sum() / (dense.norm() * other_dense.norm()).clamp(min=1e-300)
    torch.testing.assert_close(pair.cosine(other), expected, **CLOSE)
    assert pair.cosine(other).isfinite()


def test_singular_values_equal_the_dense_ones(pair):
    expected = torch.linalg.svdvals(pair.dense())[: min(pair.rank, *pair.shape)]
    torch.testing.assert_close(pair.singular_values(), expected, **CLOSE)


def test_matvec_and_rmatvec(pair, generator):
    x = torch.randn(2, 3, pair.m, generator=generator, dtype=torch.float64)
    y = torch.randn(4, pair.n, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(pair.matvec(x), x @ pair.dense().T, **CLOSE)
    torch.testing.assert_close(pair.rmatvec(y), y @ pair.dense(), **CLOSE)


def test_sum_scaling_and_padding(pair, generator):
    other = random_pair(pair.n, pair.m, 2, generator)
    torch.testing.assert_close((pair + other).dense(), pair.dense() + other.dense(), **CLOSE)
    torch.testing.assert_close((2.5 * pair).dense(), 2.5 * pair.dense(), **CLOSE)
    padded = pair.pad(pair.rank + 2)
    assert padded.rank == pair.rank + 2
    torch.testing.assert_close(padded.dense(), pair.dense(), **CLOSE)


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
def test_truncation_is_the_best_approximation(pair, rank):
    truncated, kept = pair.truncate(rank)
    left, values, right = torch.linalg.svd(pair.dense(), full_matrices=False)
    best = left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]
    torch.testing.assert_close(truncated.dense(), best, **CLOSE)
    total = values.square().sum()
    expected = float(values[:rank].square().sum() / total) if total > 0 else 1.0
    assert kept == pytest.approx(expected, abs=1e-12)
    assert truncated.rank <= rank


def test_truncation_balances_the_factors(generator):
    pair = random_pair(7, 5, 3, generator).truncate(3).pair
    torch.testing.assert_close(pair.u.T @ pair.u, pair.v.T @ pair.v, **CLOSE)


def test_effective_rank_counts_equal_singular_values():
    pair = LowRank(torch.eye(6, 3).double(), torch.eye(5, 3).double())
    assert float(pair.effective_rank()) == pytest.approx(3.0)
    assert float((0.0 * pair).effective_rank()) == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_small_types_give_float32_results_close_to_the_dense_ones(dtype, generator):
    pair = random_pair(16, 12, 4, generator, dtype)
    dense = pair.u.double() @ pair.v.double().T
    for value, expected in [
        (pair.norm(), dense.norm()),
        (pair.singular_values(), torch.linalg.svdvals(dense)[:4]),
        (pair.cosine(pair), torch.ones(())),
    ]:
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected.double(), rtol=1e-5, atol=1e-6)
    assert pair.truncate(2).pair.dtype == dtype


def test_rank_512_keeps_its_accuracy(generator):
    pair = random_pair(600, 520, 512, generator, torch.float32)
    expected = torch.linalg.matrix_norm(pair.u.double() @ pair.v.double().T)
    torch.testing.assert_close(pair.norm().double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        pair.singular_values().double().square().sum().sqrt(), expected, rtol=1e-5, atol=0
    )


def test_norm_survives_cancellation():
    """u v^T - u v^T is zero though its columns are not; rounding must not give the root of a negative."""
    pair = LowRank(torch.full((3, 1), 1 / 3), torch.full((4, 1), 0.7))
    zero = pair + -1.0 * pair
    assert float(zero.norm()) < 1e-6
    assert float(zero.cosine(pair)) == pytest.approx(0, abs=1)


def test_convolution_keeps_its_kernel(generator):
    pair = random_pair(4, 18, 2, generator, kernel=(3, 3))
    assert pair.dense_weight().shape == (4, 2, 3, 3)
    assert torch.equal(pair.dense_weight().flatten(1), pair.dense())
    for other in (
        pair.pad(3),
        2.0 * pair,
        pair + pair,
        pair.truncate(1).pair,
        pair.to(torch.float32),
    ):
        assert other.kernel == (3, 3)
    assert random_pair(4, 6, 2, generator).dense_weight().shape == (4, 6)
    assert "kernel=(3, 3)" in repr(pair)


def test_a_pair_cannot_be_written_to(pair):
    with pytest.raises(AttributeError):
        pair.u = pair.v


def test_bytes_and_moves(pair):
    assert pair.nbytes == 8 * (pair.n + pair.m) * pair.rank
    assert pair.to(torch.float32, "cpu").dtype == torch.float32
    assert pair.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("u", "v", "kernel", "message"),
    [
        (torch.ones(3, 2), torch.ones(2, 4), (), r"expected \(n, r\) and \(m, r\)"),
        (torch.ones(3), torch.ones(4), (), r"expected \(n, r\)"),
        (torch.ones(3, 2), torch.ones(4, 2).double(), (), "one floating type"),
        (torch.ones(3, 2).int(), torch.ones(4, 2).int(), (), "one floating type"),
        (torch.ones(3, 2), torch.ones(10, 2), (3, 3), "no multiple of the kernel"),
    ],
)
def test_what_is_no_pair_is_refused(u, v, kernel, message):
    with pytest.raises(LayerError, match=message):
        LowRank(u, v, kernel)


def test_pairs_of_other_shapes_do_not_mix(generator):
    pair, other = random_pair(4, 5, 2, generator), random_pair(5, 4, 2, generator)
    for operation in (pair.inner, pair.cosine, pair.__add__, lambda x: gram_trace(pair, x)):
        with pytest.raises(LayerError, match="expected the same n, m and kernel"):
            operation(other)
    with pytest.raises(LayerError, match="expected 0 or more"):
        pair.truncate(-1)
    with pytest.raises(LayerError, match="expected at least 2"):
        pair.pad(1)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (9, 6)])
def test_narrowing_keeps_the_update(n, m, generator):
    pair = random_pair(n, m, 20, generator)
    assert pair.narrow().rank == 6
    torch.testing.assert_close(pair.narrow().dense(), pair.dense(), **CLOSE)
    half = pair.to(torch.bfloat16)
    assert half.narrow().dtype == torch.float32
    torch.testing.assert_close(half.narrow().dense(), half.to(torch.float32).dense())
    assert pair.narrow().narrow().rank == 6
