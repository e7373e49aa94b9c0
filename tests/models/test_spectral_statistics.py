"""Five statistics of a spectrum: against scipy, of degenerate spectra, what they find."""

import math

import numpy as np
import torch
from scipy import stats

from lorascope.models.spectral_statistics import SpectralStatistics, Statistics, layer_statistics
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(120)


def one(values, count):
    s = torch.tensor([[values]], dtype=torch.float64)
    return layer_statistics(s, torch.tensor([count]), torch.zeros(1, dtype=torch.float64))[0, 0]


def test_the_five_are_their_formulas():
    values = [4.0, 2.0, 1.0]
    log_first, log_norm, energy, entropy, kurtosis = one(values, 8).tolist()
    share = np.array([16.0, 4.0, 1.0]) / 21
    assert math.isclose(log_first, math.log(4))
    assert math.isclose(log_norm, 0.5 * math.log(21))
    assert math.isclose(energy, 16 / 21)
    assert math.isclose(entropy, stats.entropy(share))
    full = np.array([*values, *[0.0] * 5])
    assert math.isclose(kurtosis, stats.kurtosis(full, fisher=False))


def test_columns_of_zeros_change_nothing_even_above_the_layer():
    expected = one([4.0, 2.0, 1.0], 4)
    torch.testing.assert_close(one([4.0, 2.0, 1.0, 0.0, 0.0, 0.0], 4), expected)


def test_a_flat_spectrum_and_none_have_no_kurtosis():
    assert one([2.0, 2.0], 2)[4] == 0
    nothing = one([0.0, 0.0], 4)
    assert nothing[2:].tolist() == [0.0, 0.0, 0.0]


def test_width_and_standardisation():
    numbers = Statistics(BATCH.signature)
    numbers.fit(BATCH)
    z = numbers(BATCH)
    assert z.shape == (120, 15)
    torch.testing.assert_close(z.mean(0), torch.zeros(15), rtol=0, atol=1e-4)
    empty = BATCH.select(slice(0, 0))
    numbers.fit(empty)  # nothing to learn from leaves it as it is
    assert torch.equal(numbers(BATCH), z)


def test_a_size_is_found_and_a_direction_is_not():
    model = SpectralStatistics(BATCH.signature, 1, rank=3)
    model.fit(BATCH.select(slice(0, 80)), SIZE[:80], kind="regression")
    error = (model(BATCH.select(slice(80, 120))) - SIZE[80:]).square().mean()
    assert float(error) < 0.1 * float(SIZE[80:].var())
    model = SpectralStatistics(BATCH.signature, 3, rank=3)
    model.fit(BATCH.select(slice(0, 80)), CLASSES[:80], kind="multilabel")
    right = (model(BATCH.select(slice(80, 120))) > 0) == (CLASSES[80:] > 0.5)
    assert float(right.float().mean()) < 0.67
