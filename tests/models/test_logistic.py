"""Logistic regression against scikit-learn; calibration where there is signal and where there is none."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lorascope.models.logistic import (
    STRENGTHS,
    calibrate,
    choose_logistic,
    fit_logistic,
    negative_log_likelihood,
)


def draw(kind, count=150, features=6, labels=3, noise=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=generator, dtype=torch.float64)
    scores = x @ torch.randn(features, labels, generator=generator, dtype=torch.float64) + 0.5
    scores += noise * torch.randn(count, labels, generator=generator, dtype=torch.float64)
    if kind == "multilabel":
        return x, (scores > 0).double()
    return x, torch.nn.functional.one_hot(scores.argmax(1), labels).double()


def sklearn(x, y, strength):
    model = LogisticRegression(C=1 / (strength * len(x)), tol=1e-10, max_iter=2000)
    return model.fit(x.numpy(), y.numpy())


def test_multilabel_equals_scikit_learn():
    x, y = draw("multilabel")
    found = fit_logistic(x, y, "multilabel", 0.03)
    for label in range(3):
        expected = sklearn(x, y[:, label], 0.03)
        np.testing.assert_allclose(found.weights[:, label], expected.coef_[0], atol=1e-3)
        assert found.intercept[0, label].item() == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_multiclass_equals_scikit_learn():
    x, y = draw("multiclass")
    found = fit_logistic(x, y, "multiclass", 0.03)
    expected = sklearn(x, y.argmax(1), 0.03).predict_log_proba(x.numpy())
    np.testing.assert_allclose(found(x).log_softmax(1), expected, atol=1e-2)


def test_masks_fit_subsets_at_once():
    x, y = draw("multilabel")
    masks = torch.zeros(2, len(x), dtype=torch.float64)
    masks[0, :80], masks[1, 60:] = 1, 1
    both = fit_logistic(x, y, "multilabel", 0.1, masks=masks)
    assert both(x).shape == (2, len(x), 3)
    for number, rows in enumerate((slice(0, 80), slice(60, None))):
        alone = fit_logistic(x[rows], y[rows], "multilabel", 0.1)
        torch.testing.assert_close(both.weights[number], alone.weights, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_the_chosen_strength_predicts_new_rows(kind):
    x, y = draw(kind, count=400)
    train, test = slice(0, 120), slice(120, None)
    found = choose_logistic(x[train], y[train], kind, groups=torch.arange(120))
    prior = y[train].mean(0).clamp(0.01, 0.99)
    constant = prior.logit() if kind == "multilabel" else prior.log()
    loss = negative_log_likelihood(found(x[test]), y[test], kind).mean()
    base = negative_log_likelihood(constant.expand_as(y[test]), y[test], kind).mean()
    assert loss < 0.7 * base


def test_noise_is_answered_by_the_strongest_strength():
    x, _ = draw("multilabel")
    y = (torch.rand(150, 3, generator=torch.Generator().manual_seed(3)) < 0.5).double()
    found = choose_logistic(x, y, "multilabel", groups=torch.arange(150))
    strongest = fit_logistic(x, y, "multilabel", max(STRENGTHS))
    torch.testing.assert_close(found.weights, strongest.weights, rtol=0, atol=1e-3)


def test_groups_are_left_out_together():
    """Each group has its own label: what tells groups apart is useless for a new one."""
    count, size = 30, 5
    generator = torch.Generator().manual_seed(1)
    index = torch.arange(count).repeat_interleave(size)
    x = torch.eye(count, dtype=torch.float64)[index]
    y = (torch.rand(count, 1, generator=generator) < 0.5).double()[index]
    by_row = choose_logistic(x, y, "multilabel", groups=torch.arange(count * size))
    by_group = choose_logistic(x, y, "multilabel", groups=index)
    assert by_group.weights.norm() < 0.5 * by_row.weights.norm()
    one = choose_logistic(x, y, "multilabel", groups=torch.zeros_like(index))
    assert bool(one.weights.isfinite().all())


def test_held_out_rows_can_choose():
    x, y = draw("multilabel", count=200)
    opposed = 1 - y[100:]
    groups = torch.arange(100)
    right = choose_logistic(
        x[:100], y[:100], "multilabel", groups=groups, held_out=(x[100:], y[100:])
    )
    wrong = choose_logistic(
        x[:100], y[:100], "multilabel", groups=groups, held_out=(x[100:], opposed)
    )
    assert wrong.weights.norm() < right.weights.norm()


def test_calibration_gives_frequencies():
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    truth = torch.sigmoid(3 * score - 1)
    y = (torch.rand(4000, 1, generator=generator) < truth).double()
    found = calibrate(score, y, "multilabel")
    assert found.slope.item() == pytest.approx(3, rel=0.1)
    assert found.offset.item() == pytest.approx(-1, rel=0.15)


def test_calibration_of_scores_opposed_to_their_labels_is_the_base_rate():
    """Leave-one-out means are exactly opposed: nothing was learned, and nothing must be claimed."""
    y = torch.tensor([[1.0]] * 30 + [[0.0]] * 10, dtype=torch.float64)
    score = (y.sum() - y) / (len(y) - 1)
    found = calibrate(2 * score - 1, y, "multilabel")
    assert 0 <= found.slope.item() < 0.1
    rate = torch.sigmoid(found(torch.tensor([[0.5]], dtype=torch.float64))).item()
    assert rate == pytest.approx(0.75, abs=0.03)


def test_calibration_of_a_label_that_never_varies_is_finite():
    y = torch.ones(20, 1, dtype=torch.float64)
    found = calibrate(torch.ones(20, 1, dtype=torch.float64), y, "multilabel")
    logit = found(torch.ones(1, 1, dtype=torch.float64)).item()
    assert 1 < logit < 5


def test_calibration_of_classes_shares_one_slope():
    _, y = draw("multiclass", count=300)
    score = 2 * y - 1 + 0.8 * torch.randn(300, 3, generator=torch.Generator().manual_seed(2))
    found = calibrate(score, y, "multiclass")
    assert found.slope.unique().numel() == 1
    raw = negative_log_likelihood(score, y, "multiclass").mean()
    assert negative_log_likelihood(found(score), y, "multiclass").mean() < raw
