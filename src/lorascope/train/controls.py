"""Controls: deliberately simple predictors that every result stands beside, on the same split.

    majority           the class frequencies (classes) or the mean (regression) of the training labels
    norm only          the Frobenius norm of the whole update, one number
    per-layer norms    the norm of each layer's update beside it
    rank only          the rank of each layer
    hyper-parameters   the settings of the finetuning, which no weight reader is given

The last four are small nonlinear regressors that are meant to be good: splines of the ranks of each feature
with ridge or logistic regression, and boosted trees for regression; what is best on validation is kept.
None of them is a product: they live in memory only and are never saved.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import SplineTransformer

from lorascope.core.batch import LoRABatch
from lorascope.errors import DataError
from lorascope.predict.target import Target
from lorascope.train.data import LabelledLoRAs
from lorascope.train.metrics import WATCHED, better, scores
from lorascope.train.splits import Split

Array = NDArray[np.float64]
Features = Callable[[LabelledLoRAs, Split], Array]

RIDGES = (1e-2, 1e-1, 1.0, 10.0, 100.0)
INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
TREES = ((4, 50), (8, 100), (8, 300))  # leaves, iterations


def control_predictions(
    name: str, data: LabelledLoRAs, target: str, split: Split, *, seed: int = 0
) -> Array:
    """A control's predictions on the test rows, (len(split.test), k): values or probabilities.

    Raises DataError for a name that is no control, when the data has no hyper-parameters to read, or for
    features that are not finite.
    """
    if name not in CONTROLS:
        raise DataError(
            f"Running a control: found {name!r}, expected one of {', '.join(CONTROLS)}."
        )
    features = CONTROLS[name](data, split)
    return predict_from(
        features, data.target(target), data.labels[target], split, source=data.source, seed=seed
    )


def predict_from(
    features: Array,  # (N, f)
    target: Target,
    y: Array,  # (N, k)
    split: Split,
    *,
    source: str = "memory",
    seed: int = 0,
) -> Array:
    """What a control predicts for the test rows from numbers of every row; their labels are not read.

    Raises DataError for features that are not finite.
    """
    if target.kind == "regression":  # in units of its spread, so that the penalties mean the same
        centre, spread = y[split.train].mean(), y[split.train].std() or 1.0
        scaled = (y - centre) / spread
        return _predict(features, target, scaled, split, seed, source) * spread + centre
    return _predict(features, target, y, split, seed, source)


def control_scores(
    name: str, data: LabelledLoRAs, target: str, split: Split, *, seed: int = 0
) -> dict[str, float | None]:
    """A control's scores on the test rows, None where one does not exist. Raises as `control_predictions`."""
    predicted = control_predictions(name, data, target, split, seed=seed)
    found = scores(data.target(target), data.labels[target][split.test], predicted)
    return {key: value if math.isfinite(value) else None for key, value in found.items()}


def controls_of(data: LabelledLoRAs) -> tuple[str, ...]:
    """The controls that can be run: without hyper-parameters there is none that reads them."""
    return tuple(name for name in CONTROLS if name != "hyper-parameters" or data.hyper)


def _predict(table: Array, target: Target, y: Array, split: Split, seed: int, source: str) -> Array:
    constant = np.repeat(y[split.train].mean(0, keepdims=True), len(split.test), axis=0)
    table = _finite(table, split, source)
    table = table[:, np.ptp(table[split.train], axis=0) > 0] if len(table.T) else table
    if table.shape[1] == 0:  # nothing varies: what is left is the majority
        return constant
    basis = _spline_basis(table, split)
    metric, truth = WATCHED[target.kind], y[split.validation]
    held = np.repeat(constant[:1], len(split.validation), axis=0)
    best, found = constant, scores(target, truth, held)[metric]
    for predict in _candidates(target, table, basis, y[split.train], split, seed):
        watched = scores(target, truth, predict(split.validation))[metric]
        if better(metric, watched, found):
            best, found = predict(split.test), watched
    return best


def _finite(table: Array, split: Split, source: str) -> Array:
    """The table itself. Raises DataError for a row that a comparison with NaN would silently drop."""
    rows = np.sort(np.concatenate(split.parts()))
    bad = rows[~np.isfinite(table[rows]).all(axis=1)]
    if len(bad):
        raise DataError(
            f"Running a control on {source}: what it reads of row {bad[0]} is not finite, expected finite "
            "factors. Try: leave that LoRA out."
        )
    return table


def layer_norms(batch: LoRABatch) -> Array:
    """Frobenius norm of each layer's update, (b, l): ||u v^T||^2 = sum (u^T u) * (v^T v)."""
    squares = [
        ((g.u.double() @ g.u.double().mT) * (g.v.double() @ g.v.double().mT)).sum((2, 3))
        for g in batch.groups
    ]
    norms = torch.cat(squares)[batch.layer_order].clamp(min=0).sqrt()
    return np.asarray(norms.T.cpu().numpy(), dtype=np.float64)


def _no_features(data: LabelledLoRAs, split: Split) -> Array:
    return np.zeros((len(data), 0))


def _norm_features(data: LabelledLoRAs, split: Split) -> Array:
    return np.sqrt((layer_norms(data.batch) ** 2).sum(1, keepdims=True))


def _layer_norm_features(data: LabelledLoRAs, split: Split) -> Array:
    norms = layer_norms(data.batch)
    return np.column_stack([np.sqrt((norms**2).sum(1)), norms])


def _rank_features(data: LabelledLoRAs, split: Split) -> Array:
    return data.batch.ranks.cpu().numpy().astype(np.float64)


def _hyper_features(data: LabelledLoRAs, split: Split) -> Array:
    if not data.hyper:
        raise DataError(
            f"Running the control 'hyper-parameters' on {data.source}: it stores none. Leave the control "
            "out, or add columns to the labels."
        )
    table = np.column_stack([data.hyper[name] for name in sorted(data.hyper)])
    known = [column[np.isfinite(column)] for column in table[split.train].T]
    middle = np.array([np.median(column) if len(column) else 0.0 for column in known])
    return np.where(np.isfinite(table), table, middle)


CONTROLS: dict[str, Features] = {
    "majority": _no_features,
    "norm only": _norm_features,
    "per-layer norms": _layer_norm_features,
    "rank only": _rank_features,
    "hyper-parameters": _hyper_features,
}


def _spline_basis(table: Array, split: Split) -> Array:
    """Quadratic splines of each feature's place among the training rows; one-hot where it is discrete."""
    columns: list[Array] = []
    for column in table.T:
        known = np.sort(column[split.train])
        values = np.unique(known)
        if len(values) <= 6:
            columns.append((column[:, None] == values[None, 1:]).astype(np.float64))
            continue
        low, high = (np.searchsorted(known, column, side=side) for side in ("left", "right"))
        place = np.asarray((low + high) / (2 * len(known)), dtype=np.float64)[:, None]
        columns.append(
            SplineTransformer(n_knots=5, degree=2, include_bias=False, extrapolation="linear")
            .fit(np.linspace(0, 1, 20)[:, None])
            .transform(place)
        )
    return np.concatenate(columns, axis=1)


Predict = Callable[[NDArray[np.int64]], Array]


def _candidates(
    target: Target, table: Array, basis: Array, y: Array, split: Split, seed: int
) -> Sequence[Predict]:
    if target.kind == "multilabel":
        return [_logistic(basis, y, split, penalty) for penalty in INVERSE_PENALTIES]
    if target.kind == "multiclass":
        return [_softmax(basis, y, split, penalty) for penalty in INVERSE_PENALTIES]
    linear = [
        _regressor(Ridge(alpha=alpha).fit(basis[split.train], y[:, 0]), basis) for alpha in RIDGES
    ]
    trees = [
        HistGradientBoostingRegressor(
            max_leaf_nodes=leaves,
            max_iter=iterations,
            learning_rate=0.08,
            random_state=seed,
            early_stopping=False,
        ).fit(table[split.train], y[:, 0])
        for leaves, iterations in TREES
    ]
    return linear + [_regressor(tree, table) for tree in trees]


def _regressor(fitted: Any, inputs: Array) -> Predict:
    return lambda rows: np.asarray(fitted.predict(inputs[rows]), dtype=np.float64)[:, None]


def _logistic(basis: Array, y: Array, split: Split, penalty: float) -> Predict:
    """One logistic regression per class; a class that never varies keeps its frequency."""
    fitted = [
        _fit_logistic(basis[split.train], column, penalty)
        if 0 < column.mean() < 1
        else column.mean()
        for column in y.T
    ]

    def predict(rows: NDArray[np.int64]) -> Array:
        columns = [
            np.full(len(rows), f) if isinstance(f, float) else f.predict_proba(basis[rows])[:, 1]
            for f in fitted
        ]
        return np.column_stack(columns)

    return predict


def _softmax(basis: Array, y: Array, split: Split, penalty: float) -> Predict:
    """One multinomial regression; classes that are not in the training rows keep probability 0."""
    classes = y.argmax(1)
    if len(np.unique(classes)) < 2:
        return lambda rows: np.repeat(y.mean(0, keepdims=True), len(rows), axis=0)
    fitted = _fit_logistic(basis[split.train], classes, penalty)

    def predict(rows: NDArray[np.int64]) -> Array:
        table = np.zeros((len(rows), y.shape[1]))
        table[:, fitted.classes_.astype(int)] = fitted.predict_proba(basis[rows])
        return table

    return predict


def _fit_logistic(inputs: Array, y: Array | NDArray[np.int64], penalty: float) -> Any:
    with warnings.catch_warnings():
        # a control that has not quite converged is still a fair control
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=penalty, solver="newton-cholesky", max_iter=50).fit(inputs, y)
