import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from lorascope.errors import DataError
from lorascope.predict.target import Target
from lorascope.train.metrics import better, scores

SCORE = Target("score", "regression")
SOURCES = Target("sources", "multilabel", ("a", "b", "c"))
KIND = Target("kind", "multiclass", ("a", "b", "c"))
rng = np.random.default_rng(0)


def test_r2_is_the_coefficient_of_determination_and_spearman_is_spearman():
    y = rng.normal(size=50)
    x = np.exp(y) + 0.1 * rng.normal(size=50)
    found = scores(SCORE, y[:, None], x[:, None])
    assert found["r2"] == pytest.approx(1 - ((y - x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert found["r2"] < 0 < 0.9 < found["spearman"]  # what a swap of the names would hide
    assert found["spearman"] == pytest.approx(stats.spearmanr(y, x).statistic)
    assert found["kendall_tau"] == pytest.approx(stats.kendalltau(y, x).statistic)
    assert found["rmse"] == pytest.approx(np.sqrt(((y - x) ** 2).mean()))
    assert found["mae"] == pytest.approx(np.abs(y - x).mean())


def test_a_constant_has_no_rank_correlation_and_equal_labels_have_no_r2():
    y = np.array([[1.0], [2.0], [3.0]])
    found = scores(SCORE, y, np.full((3, 1), 2.0))
    assert found["r2"] == 0.0
    assert np.isnan(found["spearman"])
    assert np.isnan(found["kendall_tau"])
    assert np.isnan(scores(SCORE, np.ones((3, 1)), y)["r2"])


def test_multilabel_scores_by_hand():
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=float)
    p = np.array([[0.9, 0.2, 0.9], [0.6, 0.1, 0.8], [0.7, 0.9, 0.4], [0.2, 0.3, 0.9]])
    found = scores(SOURCES, truth, p)
    assert found["accuracy"] == pytest.approx(9 / 12)
    # The third class is always there: it has no balanced accuracy and no AUC.
    assert found["balanced_accuracy"] == pytest.approx((0.75 + 0.75) / 2)
    assert found["roc_auc"] == pytest.approx((1.0 + 1.0) / 2)
    assert found["log_loss"] == pytest.approx(
        np.mean([sk.log_loss(truth[:, k], p[:, k], labels=[0, 1]) for k in range(3)])
    )
    assert found["brier"] == pytest.approx(((truth - p) ** 2).mean())


def test_multilabel_with_no_class_that_varies():
    found = scores(SOURCES, np.ones((2, 3)), np.full((2, 3), 0.8))
    assert found["accuracy"] == 1.0
    assert np.isnan(found["roc_auc"])


def test_multiclass_scores_agree_with_scikit_learn():
    y = rng.integers(0, 3, 60)
    p = rng.dirichlet((1, 1, 1), 60)
    found = scores(KIND, np.eye(3)[y], p)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(1)))
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
    assert found["brier"] == pytest.approx(((np.eye(3)[y] - p) ** 2).sum(1).mean())


def test_sure_and_wrong_stays_finite():
    found = scores(SOURCES, np.array([[1.0, 0, 1]]), np.array([[0.0, 1.0, 1.0]]))
    assert np.isfinite(found["log_loss"])


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        (np.zeros((2, 1)), np.zeros((3, 1)), "expected the same"),
        (np.zeros((0, 1)), np.zeros((0, 1)), "at least one row"),
        (np.zeros((1, 1)), np.array([[np.nan]]), "not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, predicted, words):
    with pytest.raises(DataError, match=words):
        scores(SCORE, truth, predicted)


def test_better_knows_the_direction_and_that_nan_is_nothing():
    assert better("r2", 0.5, 0.4)
    assert not better("rmse", 0.5, 0.4)
    assert better("rmse", 0.4, 0.5)
    assert better("r2", -3.0, float("nan"))
    assert not better("r2", float("nan"), -3.0)
