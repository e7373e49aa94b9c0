"""Scores of predictions, under their right names, computed by scikit-learn and scipy.

    regression   r2 (the coefficient of determination), rmse, mae (units of the label), spearman, kendall_tau
    multilabel   accuracy (mean over rows and classes), balanced_accuracy and roc_auc (means over the
                 classes that occur with and without), log_loss and brier (means over rows and classes)
    multiclass   accuracy, balanced_accuracy, roc_auc (one against the rest, mean over classes), log_loss,
                 brier (sum of squares over classes, mean over rows)

A score that does not exist on the data (a rank correlation with a constant, an AUC of one class) is NaN.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from lorascope.errors import DataError
from lorascope.predict.target import Target

Array = NDArray[np.float64]
Scores = dict[str, float]

#: Scores of which less is better; of all others more is better.
LOWER_IS_BETTER = frozenset({"rmse", "mae", "log_loss", "brier"})
#: The score that early stopping and the choice of regularisation watch.
WATCHED: Mapping[str, str] = {
    "regression": "rmse",
    "multilabel": "log_loss",
    "multiclass": "log_loss",
}
_FLOOR = 1e-7  # probabilities are clipped here before a logarithm


def scores(target: Target, truth: Array, predicted: Array) -> Scores:
    """All scores of a task type; truth and predicted: (b, k), values or probabilities.

    Raises DataError when the shapes differ, there are no rows, or a prediction is not finite.
    """
    if truth.shape != predicted.shape or truth.ndim != 2 or len(truth) == 0:
        raise DataError(
            f"Scoring {target.name!r}: found truth {truth.shape} and predictions {predicted.shape}, "
            f"expected the same (rows, {target.out_features}) with at least one row."
        )
    if not np.isfinite(predicted).all():
        raise DataError(f"Scoring {target.name!r}: a prediction is not finite.")
    return _SCORES[target.kind](truth, predicted)


def better(metric: str, score: float, than: float) -> bool:
    """Whether a score beats another; NaN beats nothing and is beaten by any number."""
    if np.isnan(score):
        return False
    return bool(np.isnan(than) or (score < than if metric in LOWER_IS_BETTER else score > than))


def _regression(truth: Array, predicted: Array) -> Scores:
    y, x = truth[:, 0], predicted[:, 0]
    enough = len(y) > 1 and bool(np.ptp(y) > 0)
    ranked = enough and bool(np.ptp(x) > 0)
    return {
        "r2": float(sk.r2_score(y, x)) if enough else np.nan,
        "rmse": float(sk.root_mean_squared_error(y, x)),
        "mae": float(sk.mean_absolute_error(y, x)),
        "spearman": float(stats.spearmanr(y, x).statistic) if ranked else np.nan,
        "kendall_tau": float(stats.kendalltau(y, x).statistic) if ranked else np.nan,
    }


def _multilabel(truth: Array, predicted: Array) -> Scores:
    chosen = (predicted >= 0.5).astype(np.float64)
    columns = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    p = np.clip(predicted, _FLOOR, 1 - _FLOOR)
    return {
        "accuracy": float((chosen == truth).mean()),
        "balanced_accuracy": _mean(
            sk.balanced_accuracy_score(truth[:, k], chosen[:, k]) for k in columns
        ),
        "roc_auc": _mean(sk.roc_auc_score(truth[:, k], predicted[:, k]) for k in columns),
        "log_loss": float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()),
        "brier": float(((predicted - truth) ** 2).mean()),
    }


def _multiclass(truth: Array, predicted: Array) -> Scores:
    y, chosen = truth.argmax(1), predicted.argmax(1)
    present = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    p = np.clip(predicted, _FLOOR, 1.0)
    hits = [float((chosen[y == k] == k).mean()) for k in np.unique(y)]
    return {
        "accuracy": float((chosen == y).mean()),
        # The mean recall of the classes that occur; scikit-learn's warns of predicted ones that do not.
        "balanced_accuracy": float(np.mean(hits)),
        "roc_auc": _mean(sk.roc_auc_score(truth[:, k], predicted[:, k]) for k in present),
        "log_loss": float(-np.log((p * truth).sum(1)).mean()),
        "brier": float(((predicted - truth) ** 2).sum(1).mean()),
    }


def _mean(values: Iterable[float]) -> float:
    found = [float(value) for value in values]
    return float(np.mean(found)) if found else float(np.nan)


_SCORES: dict[str, Callable[[Array, Array], Scores]] = {
    "regression": _regression,
    "multilabel": _multilabel,
    "multiclass": _multiclass,
}
