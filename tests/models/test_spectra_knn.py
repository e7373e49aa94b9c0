"""Nearest neighbours by spectrum: votes against a slow loop, the choice of k, classes, groups."""

import pytest
import torch

from lorascope.core import collate
from lorascope.errors import DataError, TrainingError
from lorascope.models.spectra_knn import SpectraKNN
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(120)
TRAIN, TEST = slice(0, 80), slice(80, 120)


def fitted(y, kind, **options):
    model = SpectraKNN(BATCH.signature, y.shape[1], rank=3)
    model.fit(BATCH.select(TRAIN), y[TRAIN], kind=kind, **options)
    return model


@pytest.mark.parametrize("by_layer", [True, False])
def test_the_votes_are_those_of_a_slow_loop(by_layer):
    model = fitted(SIZE, "regression")
    model.get_buffer("count").fill_(3)
    model.get_buffer("by_layer").fill_(by_layer)
    z, training = model.sizes(BATCH.select(TEST)), model.sizes(BATCH.select(TRAIN))
    blocks = [slice(4 * i, 4 * i + 4) for i in range(3)] if by_layer else [slice(None)]
    expected = []
    for row in z[:5]:
        votes = []
        for block in blocks:
            near = (training[:, block] - row[block]).norm(dim=1).argsort()[:3]
            votes.append(SIZE[TRAIN][near].mean(0))
        expected.append(torch.stack(votes).mean(0))
    torch.testing.assert_close(model(BATCH.select(TEST))[:5], torch.stack(expected))


def test_a_size_is_found_with_few_neighbours_and_noise_asks_for_many():
    model = fitted(SIZE, "regression")
    error = (model(BATCH.select(TEST)) - SIZE[TEST]).square().mean()
    assert float(error) < 0.1 * float(SIZE[TEST].var())
    noise = torch.randn(120, 1, generator=torch.Generator().manual_seed(0))
    assert (
        int(model.get_buffer("count")) <= 8 < int(fitted(noise, "regression").get_buffer("count"))
    )


def test_labels_and_classes_get_logits_of_frequencies():
    large = (SIZE > 0).float()
    out = fitted(large, "multilabel")(BATCH.select(TEST))
    assert float(((out > 0) == (large[TEST] > 0.5)).float().mean()) > 0.9
    thirds = torch.bucketize(SIZE.flatten(), torch.tensor([-0.4, 0.4]))
    model = SpectraKNN(BATCH.signature, 3, rank=3)
    model.fit(BATCH.select(TRAIN), thirds[TRAIN], kind="multiclass")
    found = model(BATCH.select(TEST))
    assert float((found.argmax(1) == thirds[TEST]).float().mean()) > 0.8
    torch.testing.assert_close(found.exp().sum(1), torch.ones(40), rtol=0, atol=0.02)


def test_groups_are_left_out_together():
    """Twins share a random label: alone, the nearest one knows it; by groups nobody does."""
    twins = collate([lora for lora in BATCH.unbind()[:40] for _ in range(2)])
    y = torch.randn(40, 1, generator=torch.Generator().manual_seed(2)).repeat_interleave(2, 0)
    counts = {}
    for name, groups in (("rows", None), ("groups", torch.arange(40).repeat_interleave(2))):
        model = SpectraKNN(BATCH.signature, 1, rank=3)
        model.fit(twins, y, kind="regression", groups=groups)
        counts[name] = int(model.get_buffer("count"))
    assert counts["rows"] <= 2 < counts["groups"]


def test_a_lora_without_layers_gets_the_mean():
    model = fitted(SIZE, "regression")
    lora = type(BATCH.unbind()[0])({})
    batch = collate([lora], signature=BATCH.signature, allow_missing=True)
    torch.testing.assert_close(model(batch)[0], SIZE[TRAIN].mean(0))


def test_validation_chooses_where_asked():
    model = SpectraKNN(BATCH.signature, 1, rank=3, choose_by="validation")
    flat = (BATCH.select(TEST), torch.zeros(40, 1) + SIZE[TRAIN].mean())
    model.fit(BATCH.select(TRAIN), SIZE[TRAIN], kind="regression", validation=flat)
    assert int(model.get_buffer("count")) == 64
    with pytest.raises(DataError, match="found no validation LoRAs"):
        model.fit(BATCH.select(TRAIN), SIZE[TRAIN], kind="regression")


def test_a_model_that_is_not_fitted_says_so():
    with pytest.raises(TrainingError, match="it has not been fitted"):
        SpectraKNN(BATCH.signature, 1, rank=3)(BATCH)
