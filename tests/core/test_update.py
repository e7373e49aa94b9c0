"""One contract for updates of every kind: the algebra equals the same algebra on dense matrices."""

import itertools

import pytest
import torch

from lorascope.core import update as update_module
from lorascope.errors import LayerError
from tests.core.updates import KINDS, dense_twin, made

CLOSE = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture(params=KINDS)
def update(request, generator):
    return made(request.param, generator)


def test_sizes(update):
    twin = dense_twin(update)
    assert update.shape == (update.n, update.m) == tuple(twin.shape) == (12, 18)
    assert update.rank <= 12
    assert update.parameter_count == sum(tensor.numel() for tensor in update.factors)
    assert update.nbytes == 8 * update.parameter_count
    assert (update.dtype, update.device.type, update.kernel) == (torch.float64, "cpu", ())


def test_scalars_equal_their_dense_twins(update):
    twin = dense_twin(update)
    torch.testing.assert_close(update.dense(), twin, **CLOSE)
    torch.testing.assert_close(update.norm(), twin.norm(), **CLOSE)
    values = torch.linalg.svdvals(twin)[: update.rank]
    torch.testing.assert_close(update.singular_values(), values, **CLOSE)
    shares = values / values.sum()
    expected = torch.special.entr(shares).sum().exp() if values.sum() > 0 else torch.zeros(())
    assert float(update.effective_rank()) == pytest.approx(float(expected), abs=1e-6)


def test_products_with_vectors_and_numbers(update, generator):
    x = torch.randn(2, 3, 18, generator=generator, dtype=torch.float64)
    twin = dense_twin(update)
    torch.testing.assert_close(update.matvec(x), x @ twin.T, **CLOSE)
    torch.testing.assert_close((2.5 * update).dense(), 2.5 * twin, **CLOSE)
    assert type(update * 2.0) is type(update)
    assert update.to(torch.float32).dtype == torch.float32


@pytest.mark.parametrize(("a", "b"), list(itertools.product(KINDS, KINDS)))
def test_inner_products_and_sums_between_all_kinds(a, b, generator):
    one, other = made(a, generator), made(b, generator)
    x, y = dense_twin(one), dense_twin(other)
    torch.testing.assert_close(one.inner(other), (x * y).sum(), **CLOSE)
    expected = (x * y).sum() / (x.norm() * y.norm()).clamp(min=1e-300)
    torch.testing.assert_close(one.cosine(other), expected, **CLOSE)
    torch.testing.assert_close((one + other).dense(), x + y, **CLOSE)


def test_the_step_to_a_pair_is_exact(update):
    pair = update.to_low_rank()
    assert pair.rank == update.rank
    torch.testing.assert_close(pair.dense(), dense_twin(update), **CLOSE)
    assert update.to(torch.bfloat16).to_low_rank().dense().isfinite().all()


@pytest.mark.parametrize("rank", [0, 1, 2, 5, 30])
def test_truncation_is_the_best_approximation(update, rank):
    truncated, kept = update.truncate(rank)
    left, values, right = torch.linalg.svd(dense_twin(update), full_matrices=False)
    best = left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]
    torch.testing.assert_close(truncated.dense(), best, **CLOSE)
    total = values.square().sum()
    expected = float(values[:rank].square().sum() / total) if total > 0 else 1.0
    assert kept == pytest.approx(expected, abs=1e-12)
    assert truncated.rank <= rank


@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_have_the_shape_of_their_weight(kind, generator):
    update = made(kind, generator, (3, 3))
    assert update.kernel == update.to_low_rank().kernel == (3, 3)
    weight = update.dense_weight()
    assert weight.shape == (12, 2, 3, 3)
    torch.testing.assert_close(weight.reshape(12, 18), dense_twin(update), **CLOSE)
    assert "kernel=(3, 3)" in repr(update)
    with pytest.raises(LayerError, match="same n, m and kernel"):
        update.inner(made(kind, generator))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pair"])
def test_what_would_not_fit_is_refused(kind, generator, monkeypatch):
    update = made(kind, generator)
    monkeypatch.setattr(update_module, "MAX_VALUES", 10)
    for step in (update.to_low_rank, update.dense):
        with pytest.raises(LayerError, match=r"it would hold .* values, expected at most 10"):
            step()
    assert update.norm() >= 0
