"""Boosted trees on log spectra and norms: a reference of the benchmark that is no model of the library.

What scikit-learn fits can only be saved by pickle, which a predictor's folder never holds: so it is trained,
scored and forgotten. Leaves and iterations are chosen on the validation rows.

    regression   one ensemble on the value       classes   one ensemble of all
    labels       one ensemble for each label; one that never varies keeps its frequency
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from lorascope.core.batch import LoRABatch
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.spectra import SpectralFeatures
from lorascope.predict.target import Target
from lorascope.train.data import LabelledLoRAs
from lorascope.train.learn import select
from lorascope.train.metrics import WATCHED, better, scores
from lorascope.train.splits import Split

__all__ = ["BOOSTING", "boosting_predictions", "boosting_scores", "fit_boosting"]

Array = NDArray[np.float64]
Predict = Callable[[Array], Array]

#: Its name in plans and tables, beside those of models.
BOOSTING = "boosting"
#: Under g: unchanged, since singular values belong to u v^T.
SYMMETRY = Symmetry.GL
DIALS = ((4, 50), (8, 100), (4, 200), (8, 300))  # leaves, iterations


def boosting_scores(
    data: LabelledLoRAs, target: str, split: Split, *, seed: int = 0
) -> tuple[dict[str, float | None], dict[str, float | None], float]:
    """Scores on test and validation rows, None where one does not exist, and the seconds that it took."""
    started = time.perf_counter()
    tested, held = boosting_predictions(data, target, split, seed=seed)
    seconds = time.perf_counter() - started
    found = []
    for rows, predicted in ((split.test, tested), (split.validation, held)):
        of = scores(data.target(target), data.labels[target][rows], predicted)
        found.append({key: value if math.isfinite(value) else None for key, value in of.items()})
    return found[0], found[1], seconds


def boosting_predictions(
    data: LabelledLoRAs, target: str, split: Split, *, seed: int = 0
) -> tuple[Array, Array]:
    """Values or probabilities for the test and the validation rows, (rows, k) each."""
    predict = fit_boosting(data, target, split, seed=seed)
    return predict(select(data.batch, split.test)), predict(select(data.batch, split.validation))


def fit_boosting(
    data: LabelledLoRAs, target: str, split: Split, *, seed: int = 0
) -> Callable[[LoRABatch], Array]:
    """Boosted trees of the dials that are best on validation: from LoRAs to values or probabilities (b, k).

    Rows without a label take no part. Raises DataError when a part of the split is empty.
    """
    split = split.among(data.known(target)).check()
    task, labels = data.target(target), data.labels[target]
    spectra = SpectralFeatures(data.batch.signature, values=max(1, data.batch.rank))
    spectra.fit(select(data.batch, split.train))

    def table(batch: LoRABatch) -> Array:
        return np.asarray(spectra(batch).double().numpy(), dtype=np.float64)

    x, held = (table(select(data.batch, rows)) for rows in (split.train, split.validation))
    metric = WATCHED[task.kind]
    best: tuple[float, Predict] | None = None
    for leaves, iterations in DIALS:
        predict = _fit(task, x, labels[split.train], leaves, iterations, seed)
        found = scores(task, labels[split.validation], predict(held))[metric]
        if best is None or better(metric, found, best[0]):
            best = found, predict
    assert best is not None
    chosen = best[1]
    return lambda batch: chosen(table(batch))


def _fit(task: Target, x: Array, y: Array, leaves: int, iterations: int, seed: int) -> Predict:
    dials: dict[str, Any] = {
        "max_leaf_nodes": leaves,
        "max_iter": iterations,
        "learning_rate": 0.08,
        "random_state": seed,
        "early_stopping": False,
    }
    if task.kind == "regression":
        tree = HistGradientBoostingRegressor(**dials).fit(x, y[:, 0])
        return lambda rows: np.asarray(tree.predict(rows), dtype=np.float64)[:, None]
    if task.kind == "multilabel":
        columns = [_classifier(x, column, dials) for column in y.T]
        return lambda rows: np.column_stack([column(rows)[:, -1] for column in columns])
    classes = y.argmax(1)
    if len(np.unique(classes)) < 2:
        return lambda rows: np.repeat(y.mean(0, keepdims=True), len(rows), axis=0)
    forest = HistGradientBoostingClassifier(**dials).fit(x, classes)

    def predict(rows: Array) -> Array:
        table = np.zeros((len(rows), y.shape[1]))
        table[:, forest.classes_.astype(int)] = forest.predict_proba(rows)
        return table

    return predict


def _classifier(x: Array, y: Array, dials: dict[str, Any]) -> Predict:
    rate = float(y.mean())
    if not 0 < rate < 1:
        return lambda rows: np.full((len(rows), 1), rate)
    tree = HistGradientBoostingClassifier(**dials).fit(x, y)
    return lambda rows: np.asarray(tree.predict_proba(rows), dtype=np.float64)
