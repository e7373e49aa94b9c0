"""Whether the labels of an exam zoo are worth predicting: spreads, reliabilities, ceilings.

    halves       correlation of the accuracy on even facts with that on odd facts, raw and after
                 taking from each what hyper-parameters explain (out of fold)
    hyper        R^2 of hyper-parameters alone, cross-validated
    known        R^2 of the true sources and hyper-parameters together, cross-validated: what a
                 perfect reader of both would reach with as many LoRAs
    ceilings     what a perfect predictor could reach: of the accuracy the reliability of the whole test,
                 from its halves, 2 c / (1 + c) (Spearman-Brown); of the loss its correlation with the
                 loss over other questions; sources and sizes are known exactly
    hyper_at_most_half   whether hyper-parameters explain at most half of every score

A LoRA is *diverged*, and left out, if its training or its loss was not finite, or its validation
loss is above the base's by more than DIVERGED nats.
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
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

__all__ = ["DIVERGED", "exam_report"]

DIVERGED = 2.0
FOLDS, REPEATS = 5, 2
LOGARITHMIC = ("hyper:learning_rate", "hyper:weight_decay")

Array = NDArray[np.float64]


def exam_report(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Distributions, reliabilities and ceilings of the labels of a zoo.

    Args:
        table: the zoo's index (pyarrow), with the columns that `ExamFamily.evaluate` gives.
        targets: of the family, with the base's own values.
    """
    sound = ~diverged(table, float(targets["eval_loss"]["base_value"]))
    kept = table.filter(sound)
    report: dict[str, Any] = {"loras": len(table), "diverged": int((~sound).sum())}
    report |= {"scores": {}, "by_source": by_source(kept, targets)}
    if len(kept) < 2 * FOLDS:
        return report
    # one thread: on a few hundred rows the threads of the trees mostly wait for each other, and on a busy
    # machine for minutes
    with threadpool_limits(1):
        return report | _explanations(kept, targets)


def _explanations(kept: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What explains the scores of sound LoRAs, and how far their halves agree."""
    report: dict[str, Any] = {"scores": {}}
    hyper, known = hyper_of(kept), sources_of(kept)
    for name, target in targets.items():
        if target["kind"] == "regression":
            values = column(kept, f"label:{name}")
            facts = distribution(values, target.get("base_value"))
            facts["hyper_r2"], _ = explained(hyper, values)
            facts["known_r2"], _ = explained(np.c_[hyper, known], values)
            report["scores"][name] = facts
    report["halves"] = halves(kept, hyper)
    report["ceilings"] = ceilings(kept, report["halves"]["correlation"])
    report["hyper_at_most_half"] = at_most_half(report["scores"])
    return report


def ceilings(table: Any, correlation: float) -> dict[str, dict[str, float]]:
    """What a perfect predictor of each target could reach, with the halves' correlation."""
    raw = max(correlation, 0.0)
    found = {
        "sources": {"accuracy": 1.0},
        "dataset_size": {"r2": 1.0},
        "accuracy": {"r2": round(2 * raw / (1 + raw), 4)},
    }
    if "label:eval_loss_again" in table.column_names:
        pair = (column(table, f"label:eval_loss{again}") for again in ("", "_again"))
        found["eval_loss"] = {"r2": round(max(_correlation(*pair), 0.0), 4)}
    return found


def at_most_half(scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether hyper-parameters explain at most half of the variance of every score."""
    return all(facts["hyper_r2"] <= 0.5 for facts in scores.values())


def column(table: Any, name: str) -> Array:
    """A column of numbers, or of lists of one length."""
    return np.array(table[name].to_pylist(), dtype=np.float64)


def diverged(table: Any, base_loss: float) -> NDArray[np.bool_]:
    """Which LoRAs are left out: (b,) bool."""
    loss = column(table, "label:eval_loss")
    finite = np.isfinite(loss) & ~column(table, "diverged").astype(bool)
    return ~finite | (np.where(finite, loss, 0) > base_loss + DIVERGED)


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


def explained(features: Array, values: Array) -> tuple[float, Array]:
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


def halves(table: Any, hyper: Array) -> dict[str, float]:
    """How well the accuracy on some facts agrees with that on others."""
    pair = [column(table, f"label:accuracy_{half}") for half in ("even", "odd")]
    rest = [values - explained(hyper, values)[1] for values in pair]
    return {
        "correlation": round(_correlation(*pair), 4),
        "correlation_without_hyper": round(_correlation(*rest), 4),
    }


def _correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def by_source(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean accuracy on the questions of a source, of LoRAs that have it and of those that have not."""
    if not len(table):
        return {}
    accuracy = column(table, "label:accuracy_by_source").reshape(len(table), -1)
    member = column(table, "label:sources").reshape(len(table), -1).astype(bool)
    rows: dict[str, Any] = {"trained": _mean(accuracy[:, 1:][member])}
    rows["dropped"] = _mean(accuracy[:, 1:][~member])
    for i, name in enumerate(targets["sources"]["classes"]):
        own, has = accuracy[:, i + 1], member[:, i]
        rows[name] = {"trained": _mean(own[has]), "dropped": _mean(own[~has])}
    return rows


def _mean(values: Array) -> float | None:
    return round(float(values.mean()), 4) if values.size else None
