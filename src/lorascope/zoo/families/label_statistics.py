"""Statistics of a zoo's labels that every family's report is made of: spreads, halves, what explains them.

    explained     R^2 of some features, cross-validated: the better of two flexible regressors
    halves        correlation of the accuracy on one half of the test with that on the other, raw and after
                  taking from each what hyper-parameters explain (out of fold)
    reliability   of a whole test, from the correlation c of its halves: 2 c / (1 + c)    (Spearman-Brown)

They know an index and its columns, no family. scikit-learn is slow to import, so that families import this
when a report is asked for.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

__all__ = [
    "FOLDS",
    "at_most_half",
    "column",
    "correlation",
    "distribution",
    "explained",
    "halves",
    "hyper_of",
    "reliability",
    "sources_of",
]

FOLDS, REPEATS = 5, 2
LOGARITHMIC = ("hyper:learning_rate", "hyper:weight_decay")

Array = NDArray[np.float64]


def column(table: Any, name: str) -> Array:
    """A column of numbers (b,), or of lists of one length (b, k)."""
    return np.array(table[name].to_pylist(), dtype=np.float64)


def hyper_of(table: Any) -> Array:
    """Hyper-parameters, rates and decays as logarithms: (b, hyper-parameters)."""
    names = [name for name in table.column_names if name.startswith("hyper:")]
    columns = [column(table, name) for name in names]
    return np.stack(
        [np.log(x) if name in LOGARITHMIC else x for name, x in zip(names, columns, strict=True)], 1
    )


def sources_of(table: Any) -> Array:
    """True sources and their number: (b, sources + 1)."""
    member = column(table, "label:sources")
    return np.c_[member, member.sum(1)]


def distribution(values: Array, base: float | None) -> dict[str, float]:
    """Mean, spread and quantiles of a score, with the base's own value and the mean difference."""
    quantiles = dict(
        zip(
            ("min", "q25", "median", "q75", "max"),
            np.quantile(values, [0, 0.25, 0.5, 0.75, 1]),
            strict=True,
        )
    )
    facts = {"mean": values.mean(), "sd": values.std(), **quantiles}
    if base is not None:
        facts |= {"base_value": base, "mean_difference": values.mean() - base}
    return {name: round(float(value), 5) for name, value in facts.items()}


def explained(
    features: Array,  # (b, features)
    values: Array,  # (b,)
) -> tuple[float, Array]:
    """Cross-validated R^2 and out-of-fold predictions: the better of two flexible regressors.

    Boosted trees find steps and interactions; squares and products of all features with a ridge
    find smooth trends in few LoRAs.
    """
    trees = HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=8, random_state=0
    )
    products = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        RidgeCV(np.logspace(-1, 4, 11)),
    )
    best = (-np.inf, values)
    for regressor in (trees, products):
        folds = [KFold(FOLDS, shuffle=True, random_state=seed) for seed in range(REPEATS)]
        predicted = [cross_val_predict(regressor, features, values, cv=fold) for fold in folds]
        scores = [1 - np.var(values - p) / max(np.var(values), 1e-300) for p in predicted]
        if (score := float(np.mean(scores))) > best[0]:
            best = (score, np.mean(predicted, 0))
    return round(best[0], 4), best[1]


def at_most_half(scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether hyper-parameters explain at most half of the variance of every score."""
    return all(facts["hyper_r2"] <= 0.5 for facts in scores.values())


def halves(table: Any, hyper: Array) -> dict[str, float]:
    """How well the accuracy on some facts agrees with that on others."""
    pair = [column(table, f"label:accuracy_{half}") for half in ("even", "odd")]
    rest = [values - explained(hyper, values)[1] for values in pair]
    return {
        "correlation": round(correlation(*pair), 4),
        "correlation_without_hyper": round(correlation(*rest), 4),
    }


def reliability(correlation: float) -> float:
    """What a perfect predictor of a whole test could reach, R^2, given the correlation of its halves.

    Example:
        >>> reliability(0.5)
        0.6667
    """
    raw = max(correlation, 0.0)
    return round(2 * raw / (1 + raw), 4)


def correlation(a: Array, b: Array) -> float:
    """Of two columns (b,); 0 where one of them is constant."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
