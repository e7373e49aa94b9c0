"""Spectra of updates of every kind equal those of their dense twins."""

import pytest
import torch

from lorascope.core import Hadamard, Kronecker, LowRank
from lorascope.inspect import spectra as spectra_module
from lorascope.inspect.spectra import core_width, spectrum_of, stacked_spectra
from tests.conftest import random_pair
from tests.core.updates import KINDS, dense_twin, made, product


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1 << 23, 1])
def test_spectra_are_those_of_the_dense_updates(kind, chunk, generator, monkeypatch):
    monkeypatch.setattr(spectra_module, "CHUNK_BYTES", chunk)
    update = made(kind, generator)
    values, finite = spectrum_of(update)
    expected = torch.linalg.svdvals(dense_twin(update))[: update.rank]
    assert finite
    torch.testing.assert_close(values, expected, rtol=1e-7, atol=1e-6)
    assert core_width(update) <= 12


@pytest.mark.parametrize(("n", "m"), [(30, 20), (20, 30)])
@pytest.mark.parametrize(("r", "q"), [(2, 3), (3, 2), (1, 4), (6, 6)])
def test_entrywise_products_on_either_side(n, m, r, q, generator):
    update = product(n, m, r, q, generator)
    expected = torch.linalg.svdvals(dense_twin(update))[: r * q]
    torch.testing.assert_close(spectrum_of(update)[0], expected, rtol=1e-7, atol=1e-6)


def test_a_pair_wider_than_its_matrix(generator):
    pair = random_pair(3, 5, 9, generator)
    values, _ = spectrum_of(pair)
    torch.testing.assert_close(values, torch.linalg.svdvals(pair.dense()))
    assert core_width(pair) == 3


def test_a_pair_of_many_rows_goes_in_blocks(generator, monkeypatch):
    pair = random_pair(50, 40, 4, generator)
    whole = stacked_spectra([pair])[0]
    monkeypatch.setattr(spectra_module, "CHUNK_BYTES", 100)
    torch.testing.assert_close(stacked_spectra([pair])[0], whole)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zero"])
def test_what_is_not_finite_is_told(bad, kind, generator):
    update = made(kind, generator)
    for number in range(len(update.factors)):
        spoilt = with_value(update, number, bad)
        values, finite = spectrum_of(spoilt)
        assert not finite, number
        assert values.shape == (update.rank,)


def with_value(update, number, bad):
    """The update with one value of one factor changed."""
    factors = [tensor.clone() for tensor in update.factors]
    factors[number][0, 0] = bad
    if isinstance(update, LowRank):
        return LowRank(*factors)
    if isinstance(update, Hadamard):
        return Hadamard(LowRank(*factors[:2]), LowRank(*factors[2:]))
    parts = []
    for w in (update.w1, update.w2):
        pair = isinstance(w, LowRank)
        parts.append(LowRank(factors.pop(0), factors.pop(0)) if pair else factors.pop(0))
    return Kronecker(*parts)
