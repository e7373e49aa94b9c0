import pytest
import torch

from lorascope.core.batch import collate, concat
from lorascope.predict.profile import FACTS, Profile
from lorascope.symmetry import act, random_gauges
from lorascope.symmetry.invariants import norms, spectra
from tests.planted import planted_loras

LORAS = planted_loras(60)[0]
BATCH = collate(LORAS)


@pytest.fixture(scope="module")
def profile():
    found = Profile(BATCH.signature)
    found.fit(BATCH)
    return found


def test_facts_are_those_of_the_dense_updates(profile):
    facts = profile(BATCH).facts
    assert facts.shape == (60, 3, len(FACTS))
    torch.testing.assert_close(facts[..., 0], norms(BATCH).log(), rtol=1e-3, atol=1e-3)
    s = spectra(BATCH)
    used = s.square().sum(-1).square() / s.pow(4).sum(-1)
    torch.testing.assert_close(facts[..., 1].exp(), used, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(facts[..., 2].exp(), s[..., 1] / s[..., 0], rtol=1e-3, atol=1e-3)
    update = LORAS[0]["block.0.q"].dense()
    p, q = profile.p_0[0], profile.q_0[0]
    for place, kept in ((3, p.T @ update), (4, update @ q), (5, p.T @ update @ q)):
        share = (kept.square().sum() / update.square().sum()).clamp(5e-3, 1 - 5e-3)
        torch.testing.assert_close(facts[0, 0, place].sigmoid(), share, rtol=1e-3, atol=1e-3)


def test_nothing_depends_on_the_gauge_or_on_padding(profile):
    turned = act(random_gauges(BATCH, generator=torch.Generator().manual_seed(1)), BATCH)
    for other in (turned, BATCH.pad(6)):
        for a, b in zip(profile(BATCH), profile(other), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_missing_layers_and_values_are_nan_and_zero_updates_are_finite(profile):
    part = collate([LORAS[0].select(["block.0.q"])], BATCH.signature, allow_missing=True)
    seen = profile(part)
    assert bool(seen.facts[0, 1:].isnan().all())
    assert not bool(seen.facts[0, 0].isnan().any())
    assert bool(seen.directions[0, 1:].isnan().all())
    one = collate([LORAS[0].truncate(1).lora])
    assert bool(profile(one).facts[0, :, 2].isnan().all())
    nothing = profile(collate([LORAS[0] * 0.0]))
    assert bool(nothing.facts[..., [0, 1, 3, 4, 5]].isfinite().all())
    assert bool(nothing.directions.isfinite().all())


def test_each_lora_is_seen_alone(profile):
    seen = profile(concat([BATCH.select([3]), BATCH.select([7])]))
    torch.testing.assert_close(seen.facts, profile(BATCH).facts[[3, 7]], rtol=1e-4, atol=1e-4)
