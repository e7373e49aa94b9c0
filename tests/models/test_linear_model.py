"""The linear models' common part: the map is ridge regression on the model's own numbers."""

import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from lorascope.models.build import build_model
from lorascope.models.linear_model import LinearModel
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(80)
NAMES = ("ridge", "spectral_statistics", "sketch")


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_a_ridge_solution_of_some_strength(name):
    model = build_model(name, BATCH.signature, 1, rank=3).double()
    assert isinstance(model, LinearModel)
    batch = BATCH.to(torch.float64)
    model.fit(batch, SIZE, kind="regression")
    x, y = model.features(batch), SIZE.double()
    centred = x - x.mean(0)
    w = model.get_buffer("weights")
    gradient = centred.T @ (y - y.mean() - centred @ w)
    strength = float((gradient * w).sum() / w.square().sum())  # X^T r = t w at the solution
    expected = SklearnRidge(alpha=strength).fit(x.numpy(), y.numpy()).predict(x.numpy())
    assert strength > 0
    torch.testing.assert_close(model(batch).flatten(), torch.from_numpy(expected).flatten())


@pytest.mark.parametrize("name", NAMES)
def test_labels_get_logits_whose_mean_is_the_base_rate(name):
    model = build_model(name, BATCH.signature, 3, rank=3)
    model.fit(BATCH, CLASSES, kind="multilabel")
    rate = model(BATCH).sigmoid().mean(0)
    torch.testing.assert_close(rate, CLASSES.mean(0), rtol=0, atol=1e-3)
