"""DoRA's magnitudes as numbers: what they say, what a LoRA without any says, and no cost for plain ones."""

from dataclasses import replace

import pytest
import torch

from lorascope.core import collate
from lorascope.core.magnitudes import no_magnitudes
from lorascope.models.magnitudes import MagnitudeFeatures
from lorascope.symmetry import act, random_gauges
from tests.conftest import random_lora
from tests.core.test_magnitudes import with_magnitudes


@pytest.fixture
def batch(generator):
    loras = [with_magnitudes(random_lora(generator), generator) for _ in range(12)]
    loras[3] = replace(loras[3], side={})
    return collate(loras, dtype=torch.float32)


@pytest.fixture
def features(batch):
    found = MagnitudeFeatures(batch.signature)
    found.fit(batch)
    return found


def by_name(batch, row, name):
    return batch.unbind()[row].side[f"{name}.dora_magnitude"].tensor


def test_numbers_are_those_of_the_slow_way(batch, features):
    names, c = batch.signature.names, features.components
    seen = features(batch)
    assert seen.shape == (12, features.width) == (12, 4 * (2 * c + 2))
    blocks = seen[:, : 4 * 2 * c].view(12, 4, 2, c)
    rows = [row for row in range(12) if row != 3]
    for layer, name in enumerate(names):
        m = torch.stack([by_name(batch, row, name) for row in rows])
        d = m - m.mean(0)
        raw, unit = blocks[rows][:, layer].unbind(1)
        # all components of few rows are kept, so inner products are those of whole deviations
        usual = d.square().sum(1).mean().sqrt()
        torch.testing.assert_close(raw @ raw.T, d @ d.T / usual**2, rtol=1e-4, atol=1e-5)
        unit_d = d / d.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit @ unit.T, unit_d @ unit_d.T, rtol=1e-4, atol=1e-4)
        log = seen[rows][:, -8:-4][:, layer]
        expected = d.norm(dim=1).log()
        expected = (expected - expected.mean()) / expected.std(correction=0)
        torch.testing.assert_close(log, expected, rtol=1e-3, atol=1e-3)
    there = seen[:, -4:]
    torch.testing.assert_close(there[3], torch.full((4,), -11 / 12))
    torch.testing.assert_close(there[0], torch.full((4,), 1 / 12))


def test_a_lora_without_any_is_zero_but_for_what_is_there(batch, features):
    none = replace(batch, magnitudes=None)
    empty = replace(batch, magnitudes=no_magnitudes(12, batch.signature))
    for found in (features(none), features(empty)):
        assert not found[:, :-4].any()
        torch.testing.assert_close(found[:, -4:], torch.full((12, 4), -11 / 12))
    assert torch.equal(features(batch)[3], features(none)[3])


def test_a_missing_layer_takes_no_part(generator, batch, features):
    lora = batch.unbind()[0]
    part = {k: s for k, s in lora.side.items() if not k.startswith("b.0.v")}
    seen = features(collate([replace(lora, side=part)], batch.signature))
    whole = features(batch)[:1]
    place, c = batch.signature.names.index("b.0.v"), features.components
    mask = torch.ones(features.width, dtype=torch.bool)
    mask[place * 2 * c : (place + 1) * 2 * c] = False
    mask[[-8 + place, -4 + place]] = False
    torch.testing.assert_close(seen[:, mask], whole[:, mask])
    assert not seen[0, ~mask][:-1].any()


def test_nothing_depends_on_the_gauge(batch, features, generator):
    wide = batch.to(torch.float64)
    moved = act(random_gauges(wide, generator=generator), wide)
    assert torch.equal(features.double()(moved), features(wide))


def test_plain_loras_leave_it_without_buffers(batch):
    for plain in (
        replace(batch, magnitudes=None),
        replace(batch, magnitudes=no_magnitudes(12, batch.signature)),
    ):
        features = MagnitudeFeatures(batch.signature)
        features.fit(plain)
        assert not features.fitted
        assert features.state_dict() == {}


def test_what_is_saved_is_loaded(batch, features):
    again = MagnitudeFeatures(batch.signature)
    again.load_state_dict(features.state_dict())
    assert again.fitted
    assert torch.equal(again(batch), features(batch))
    MagnitudeFeatures(batch.signature).load_state_dict({})
    cut = {k: v for k, v in features.state_dict().items() if k != "usual"}
    with pytest.raises(RuntimeError, match="usual"):
        MagnitudeFeatures(batch.signature).load_state_dict(cut)


def test_a_constant_layer_says_nothing(batch):
    flat = replace(
        batch.magnitudes, groups=tuple(torch.ones_like(g) for g in batch.magnitudes.groups)
    )
    features = MagnitudeFeatures(batch.signature)
    features.fit(replace(batch, magnitudes=flat))
    seen = features(replace(batch, magnitudes=flat))
    assert bool(seen.isfinite().all())
    assert float(seen[:, :-4].abs().max()) < 1e-3


def test_terms_are_summed_layer_by_layer(batch, features):
    ones = torch.ones(features.width)
    torch.testing.assert_close(
        features.by_layer(ones), torch.full((4,), 2.0 * features.components + 2)
    )
