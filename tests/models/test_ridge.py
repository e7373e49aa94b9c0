"""Ridge and logistic regression on sizes: they find what is in the sizes and nothing else."""

import pytest
import torch

from lorascope.errors import DataError
from lorascope.models.ridge import Ridge
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(160)
TRAIN, TEST = slice(0, 100), slice(100, 160)


def fitted(y, kind, **options):
    groups = options.pop("groups", None)
    validation = options.pop("validation", None)
    model = Ridge(BATCH.signature, y.shape[1], rank=3, **options)
    model.fit(BATCH.select(TRAIN), y[TRAIN], kind=kind, groups=groups, validation=validation)
    return model


def r2(model, y):
    error = (model(BATCH.select(TEST)) - y[TEST]).square().mean()
    return 1 - float(error / y[TEST].var(correction=0))


def test_a_size_is_found():
    assert r2(fitted(SIZE, "regression"), SIZE) > 0.9


def test_few_values_are_less():
    model = Ridge(BATCH.signature, 1, rank=3, values=1)
    assert model.get_buffer("weights").shape == (3 * 2 + 1, 1)


def test_directions_are_not_found():
    out = fitted(CLASSES, "multilabel")(BATCH.select(TEST))
    assert float(((out > 0) == (CLASSES[TEST] > 0.5)).float().mean()) < 0.65


def test_noise_is_answered_by_the_mean():
    y = torch.randn(160, 1, generator=torch.Generator().manual_seed(0))
    model = fitted(y, "regression")
    out = model(BATCH.select(TEST))
    assert float(out.std()) < 0.3
    assert float(out.mean()) == pytest.approx(float(y[TRAIN].mean()), abs=0.1)


def test_labels_get_logits():
    large = (SIZE > 0).float()
    model = fitted(torch.cat([large, 1 - large], 1), "multilabel")
    out = model(BATCH.select(TEST))
    assert float(((out[:, :1] > 0) == (large[TEST] > 0)).float().mean()) > 0.8
    torch.testing.assert_close(out[:, 0], -out[:, 1], rtol=0, atol=0.05)


def test_classes_get_logits():
    thirds = torch.bucketize(SIZE.flatten(), torch.tensor([-0.25, 0.25]))
    model = Ridge(BATCH.signature, 3, rank=3)
    model.fit(BATCH.select(TRAIN), thirds[TRAIN], kind="multiclass")
    found = model(BATCH.select(TEST)).argmax(1)
    assert float((found == thirds[TEST]).float().mean()) > 0.7


def test_validation_chooses_where_asked():
    held = (BATCH.select(TEST), SIZE[TEST])
    model = fitted(SIZE, "regression", choose_by="validation", validation=held)
    assert r2(model, SIZE) > 0.9
    nothing = (BATCH.select(TEST), torch.zeros_like(SIZE[TEST]) + SIZE[TRAIN].mean())
    mean = fitted(SIZE, "regression", choose_by="validation", validation=nothing)
    assert float(mean(BATCH.select(TEST)).std()) < 0.2 * float(model(BATCH.select(TEST)).std())
    held_classes = (BATCH.select(TEST), CLASSES[TEST])
    logits = fitted(CLASSES, "multilabel", choose_by="validation", validation=held_classes)(BATCH)
    assert bool(logits.isfinite().all())
    with pytest.raises(DataError, match="found no validation LoRAs"):
        fitted(SIZE, "regression", choose_by="validation")


def test_groups_are_left_out_together():
    groups = torch.arange(50).repeat_interleave(2)
    model = fitted(SIZE, "regression", groups=groups)
    assert r2(model, SIZE) > 0.9
    by_group = fitted(CLASSES, "multilabel", groups=groups)
    assert bool(by_group(BATCH).isfinite().all())
