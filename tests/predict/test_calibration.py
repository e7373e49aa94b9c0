import numpy as np
import pytest

from lorascope.errors import DataError
from lorascope.predict.calibration import (
    ProbabilityMap,
    calibration_error,
    fit_probability_map,
    loss,
)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def labels(count, seed=0):
    """True logits of three classes, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(count, 3))
    return z, (rng.random((count, 3)) < sigmoid(z)).astype(float)


def classes(count, seed=0):
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(count, 4))
    chosen = [rng.choice(4, p=p) for p in softmax(z)]
    return z, np.eye(4)[chosen]


def test_logits_that_are_too_sure_are_made_right():
    z, y = labels(600)
    fresh, truth = labels(4000, seed=1)
    found = fit_probability_map("multilabel", 4 * z, y)
    np.testing.assert_allclose(found.slope, 0.25, rtol=0.35)
    before = calibration_error("multilabel", sigmoid(4 * fresh), truth)
    after = calibration_error("multilabel", sigmoid(found.apply(4 * fresh)), truth)
    assert before > 0.1
    assert after < 0.03


def test_a_class_of_its_own_offset_is_found_and_a_rare_one_has_that_of_all():
    z, y = labels(800)
    shifted = z + np.array([0.0, 2.0, 0.0])
    y[:, 2] = 0
    y[:5, 2] = 1
    found = fit_probability_map("multilabel", shifted, y)
    assert found.offset[1] == pytest.approx(-2 * found.slope[1], abs=0.5)
    assert abs(found.offset[0]) < 0.5
    only = fit_probability_map("multilabel", shifted[:, [0, 1]], y[:, [0, 1]])
    assert found.slope[2] not in (found.slope[0], found.slope[1])
    assert only.slope[1] == pytest.approx(found.slope[1], abs=0.3)


def test_temperature_of_classes():
    z, y = classes(500)
    found = fit_probability_map("multiclass", 3 * z, y)
    assert found.slope[0] == pytest.approx(1 / 3, rel=0.25)
    assert len(set(found.slope)) == 1
    assert set(found.offset) == {0.0}
    fresh, truth = classes(3000, seed=2)
    before, after = (
        calibration_error("multiclass", softmax(x), truth)
        for x in (3 * fresh, found.apply(3 * fresh))
    )
    assert after < 0.04 < before


def test_what_is_right_already_is_left_alone_or_nearly():
    z, y = labels(400)
    found = fit_probability_map("multilabel", z, y)
    np.testing.assert_allclose(found.slope, 1.0, atol=0.3)


def test_labels_that_logits_know_nothing_of_become_base_rates():
    rng = np.random.default_rng(0)
    z = 3 * rng.normal(size=(400, 2))
    y = (rng.random((400, 2)) < 0.2).astype(float)
    p = sigmoid(fit_probability_map("multilabel", z, y).apply(z))
    np.testing.assert_allclose(p, 0.2, atol=0.12)


def test_groups_are_left_out_together_and_one_group_changes_nothing():
    z, y = labels(60)
    assert fit_probability_map("multilabel", 4 * z, y, ["one"] * 60) == ProbabilityMap.identity(3)


def test_the_error_of_known_tables():
    p = np.array([[0.95, 0.05], [0.95, 0.05]])
    hit, miss = np.array([[1.0, 0.0]] * 2), np.array([[0.0, 1.0]] * 2)
    assert calibration_error("multiclass", p, hit) == pytest.approx(0.05)
    assert calibration_error("multiclass", p, miss) == pytest.approx(0.95)
    assert calibration_error("multilabel", np.ones((1, 2)), np.ones((1, 2))) == 0


def test_the_loss_is_the_negative_log_likelihood():
    z, y = classes(5)
    expected = -np.log((softmax(z) * y).sum(1)).mean()
    assert loss("multiclass", z, y) == pytest.approx(expected)
    z, y = labels(5)
    p = sigmoid(z)
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(1).mean()
    assert loss("multilabel", z, y) == pytest.approx(expected)


def test_there_and_back_and_what_is_refused():
    found = ProbabilityMap((1.0, 2.0), (0.5, -0.5))
    assert ProbabilityMap.from_json(found.to_json()) == found
    with pytest.raises(DataError, match="as many"):
        ProbabilityMap((1.0,), ())
    with pytest.raises(DataError, match="none below 0"):
        ProbabilityMap((-1.0,), (0.0,))
    with pytest.raises(DataError, match="at least one row"):
        fit_probability_map("multilabel", np.zeros((2, 3)), np.zeros((2, 2)))
