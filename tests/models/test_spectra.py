"""Spectral features: values against dense matrices, floors, ranks, missing layers."""

import pytest
import torch

from lorascope.core import LoRA, LowRank, collate
from lorascope.models.spectra import Sizes, SpectralFeatures
from lorascope.models.standardise import FARTHEST
from lorascope.symmetry import act, assert_invariant, random_gauges
from lorascope.symmetry.roots import gram_roots
from tests.conftest import random_lora


@pytest.fixture
def loras(generator):
    return [random_lora(generator) for _ in range(6)]


def dense_features(lora, values):
    """Singular values, norm per layer, total norm: from dense matrices."""
    parts, square = [], 0.0
    for pair in lora.layers.values():
        s = torch.linalg.svdvals(pair.dense())[: pair.rank]
        kept = torch.nn.functional.pad(s, (0, max(0, values - len(s))))[:values]
        parts += [kept, s.square().sum().sqrt().view(1)]
        square += s.square().sum()
    return torch.cat([*parts, torch.as_tensor(square).sqrt().view(1)])


@pytest.mark.parametrize("values", [0, 1, 3, 5])
def test_features_are_those_of_the_dense_updates(loras, values):
    batch = collate(loras)
    spectra = SpectralFeatures(batch.signature, values=values, logarithm=False).double()
    found = spectra(batch)
    assert found.shape == (6, spectra.width) == (6, 4 * (values + 1) + 1)
    expected = torch.stack([dense_features(lora, values) for lora in loras])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_logarithms_are_exact_where_values_are_large(loras):
    batch = collate(loras)
    raw = SpectralFeatures(batch.signature, values=3, logarithm=False).double()(batch)
    spectra = SpectralFeatures(batch.signature, values=3).double()
    spectra.fit(batch)
    real = raw > 1e-6
    torch.testing.assert_close(spectra(batch)[real], raw[real].log(), rtol=0, atol=1e-3)
    assert bool(spectra(batch).isfinite().all())


def test_floors_follow_the_training_loras(loras):
    batch = collate(loras)
    spectra = SpectralFeatures(batch.signature, values=3).double()
    spectra.fit(batch)
    zero = collate([0 * loras[0]])
    floor = spectra(zero)[0]
    typical = spectra(batch).median(0).values
    real = (batch.ranks[0].unsqueeze(1) > torch.arange(3)).flatten()
    drop = (typical - floor).view(-1)[:16].view(4, 4)[:, :3].flatten()[real]
    assert bool(((drop > 6) & (drop < 8)).all())  # log(1000) = 6.9
    spectra.fit(batch.select(slice(0, 0)))  # nothing to learn from: as before
    assert torch.equal(spectra(zero)[0], floor)


def test_scaling_moves_all_logarithms_by_the_same(loras):
    batch = collate([loras[0], 10 * loras[0]])
    spectra = SpectralFeatures(batch.signature, values=1).double()
    a, b = spectra(batch)
    torch.testing.assert_close(b - a, torch.full_like(a, 10.0).log())


def test_sizes_are_standardised(loras):
    batch = collate(loras)
    sizes = Sizes(batch.signature, values=3).double()
    sizes.fit(batch)
    found = sizes(batch)
    torch.testing.assert_close(found.mean(0), torch.zeros(sizes.width).double(), atol=1e-6, rtol=0)
    varied = found.std(0, correction=0)
    assert bool((((varied - 1).abs() < 1e-6) | (varied == 0)).all())


def test_lower_ranks_are_not_far_away(generator):
    """Logarithms of values that are 0 would lie tens of deviations from the training mean."""
    loras = [random_lora(generator) for _ in range(6)]
    batch = collate(loras)
    sizes = Sizes(batch.signature, values=3).double()
    sizes.fit(batch)
    lower = collate([lora.truncate(1).lora for lora in loras])
    far = sizes.standardise(sizes.spectra(lower))
    assert float(far.min()) < -2 * FARTHEST
    found = sizes(lower)
    assert float(found.abs().max()) == FARTHEST
    near = far.abs() < FARTHEST
    assert torch.equal(found[near], far[near])


def test_missing_layers_stay_out_of_statistics_and_answers(loras):
    full = collate(loras)
    extra = [LoRA({"b.0.q": lora["b.0.q"]}) for lora in loras]
    mixed = collate([*loras, *extra], signature=full.signature, allow_missing=True)
    alone, beside = (Sizes(full.signature, values=3).double() for _ in range(2))
    alone.fit(full)
    beside.fit(mixed)
    layers = slice(0, 16)
    torch.testing.assert_close(beside(full)[:, layers], alone(full)[:, layers])
    partial = beside(mixed)[6:]
    assert bool((partial[:, 4:16] == 0).all())
    assert bool((partial[:, :3] != 0).any())
    assert bool((partial[:, 16] != 0).all())  # the total norm


def test_a_gauge_changes_little_in_float32(loras):
    """Sizes of well and ill conditioned layers: to 1e-5 of the largest under gauges of condition 10."""
    batch = collate(loras)
    sizes = Sizes(batch.signature, values=3)
    sizes.fit(batch.to(dtype=torch.float32))
    assert_invariant(sizes, batch.to(dtype=torch.float32), tolerance=1e-5)


def test_values_down_to_the_floor_are_those_of_qr(generator):
    """Features of float32 factors whose values fall to 1e-4 of the largest, in a bad gauge."""
    q, p = (torch.linalg.qr(torch.randn(60, 4, generator=generator).double()).Q for _ in range(2))
    size = torch.tensor([1.0, 1e-2, 1e-3, 1e-4]).double()
    lora = LoRA({"q": LowRank(q * size, p)})
    exact = SpectralFeatures(lora.signature(), values=4).double()(collate([lora]))
    found = SpectralFeatures(lora.signature(), values=4)
    for trial in range(5):
        g = random_gauges(collate([lora]), generator=torch.Generator().manual_seed(trial))
        turned = act(g, collate([lora])).to(dtype=torch.float32)
        # rounding u and v to float32 in this gauge alone moves the last value by 1e-3 of itself
        torch.testing.assert_close(found(turned).double(), exact, rtol=0, atol=5e-3)
        torch.testing.assert_close(found(turned).double()[:, :3], exact[:, :3], rtol=0, atol=1e-3)


def test_known_roots_and_narrow_factors(loras):
    batch = collate(loras)
    spectra = SpectralFeatures(batch.signature, values=3)
    narrow = batch.to(dtype=torch.bfloat16)
    exact = SpectralFeatures(batch.signature, values=3).double()(narrow)
    torch.testing.assert_close(spectra(narrow).double(), exact, rtol=1e-5, atol=1e-5)
    sizes = Sizes(batch.signature, values=3).double()
    sizes.fit(batch)
    torch.testing.assert_close(sizes(batch, gram_roots(batch)), sizes(batch))
