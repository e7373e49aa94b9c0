from dataclasses import replace

import torch

from lorascope.core.batch import collate
from lorascope.predict.pretence import blend, cut, mix, randomise, thin
from lorascope.symmetry.invariants import inner_products, norms, spectra
from tests.core.test_magnitudes import with_magnitudes
from tests.planted import planted_loras

BATCH = collate(planted_loras(12)[0])


def generator():
    return torch.Generator().manual_seed(0)


def dense(batch):
    return [group.u.mT @ group.v for group in batch.groups]


def test_a_blend_is_a_mean_of_whole_loras():
    found = blend(BATCH, 2, generator())
    assert found.rank == 2 * BATCH.rank
    draw = generator()
    rows = [torch.randperm(12, generator=draw) for _ in range(2)]
    for blended, whole in zip(dense(found), dense(BATCH), strict=True):
        torch.testing.assert_close(blended, (whole[:, rows[0]] + whole[:, rows[1]]) / 2)


def test_cut_keeps_the_largest_singular_values_and_thin_less():
    whole = spectra(BATCH)
    torch.testing.assert_close(spectra(cut(BATCH, 2)), whole[..., :2], rtol=1e-4, atol=1e-4)
    thinned = thin(BATCH, 1, generator())
    assert int(thinned.ranks.max()) == 1
    assert bool((norms(thinned) <= whole[..., 0] * 1.0001).all())
    # what is left of an update is a part of it: <x, y> = |y|^2 for a projection y of x
    inner = inner_products(BATCH, thinned)
    torch.testing.assert_close(inner, norms(thinned).square(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        norms(thin(BATCH, 3, generator())), norms(BATCH), rtol=1e-3, atol=1e-3
    )


def test_mixed_and_random_ones_have_the_norms_and_spectra_of_their_own():
    for found in (mix(BATCH, generator()), randomise(BATCH, generator())):
        torch.testing.assert_close(spectra(found), spectra(BATCH), rtol=1e-3, atol=1e-3)
        cosine = inner_products(found, BATCH) / norms(BATCH).square()
        assert float(cosine.abs().mean()) < 0.9
    wide = randomise(collate([planted_loras(1)[0][0]], rank=8), generator())  # more than n
    assert bool(torch.isfinite(wide.groups[1].u).all())


def test_magnitudes_stay_with_the_norms_and_those_of_a_mean_are_a_mean():
    loras = [with_magnitudes(lora, generator()) for lora in planted_loras(6)[0]]
    loras[5] = replace(loras[5], side={})
    batch = collate(loras)
    for found in (
        cut(batch, 1),
        thin(batch, 1, generator()),
        mix(batch, generator()),
        randomise(batch, generator()),
    ):
        assert found.magnitudes is batch.magnitudes
    found, draw = blend(batch, 2, generator()).magnitudes, generator()
    one, other = (torch.randperm(6, generator=draw) for _ in range(2))
    for mean, m in zip(found.groups, batch.magnitudes.groups, strict=True):
        torch.testing.assert_close(mean, (m[:, one] + m[:, other]) / 2)
    assert found.present[:, 0].tolist() == ((one != 5) & (other != 5)).tolist()
    assert blend(BATCH, 2, generator()).magnitudes is None
