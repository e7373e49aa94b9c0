"""Whether the labels of an image zoo are worth predicting: spreads, noise, what explains them.

hyper      R^2 of hyper-parameters alone, cross-validated
known      R^2 of hyper-parameters and of what was on the pictures, cross-validated
ceilings   the R^2 that a perfect predictor of a sampled label's expectation would reach: 1 - noise^2 /
           sd^2, the noise by the LoRAs that were scored twice, under other noise, the deviation by all; with
           its standard error; what was on the pictures is known exactly, its ceiling is 1
hyper_at_most_half   whether hyper-parameters explain at most half of every sampled score
balance    share of LoRAs with each class of a multi-label target, and what the majority scores
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from lorascope.predict.target import DEFAULT_METRIC
from lorascope.zoo.families.image_labels import AGAIN
from lorascope.zoo.families.label_statistics import (
    FOLDS,
    at_most_half,
    column,
    distribution,
    explained,
)

__all__ = ["image_report"]

Array = NDArray[np.float64]


def image_report(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Distributions, ceilings and explanations of the labels of a zoo.

    Args:
        table: the zoo's index (pyarrow), with the columns that `ImageFamily.labels` gives.
        targets: of the family, with the base's own values.
    """
    sampled = [name for name in targets if f"label:{name}{AGAIN}" in table.column_names]
    sound = np.ones(len(table), dtype=bool)
    if "diverged" in table.column_names:  # where nothing is sampled no score is missing
        sound &= ~column(table, "diverged").astype(bool)
    for name in sampled:
        sound &= np.isfinite(column(table, f"label:{name}"))
    kept = table.filter(sound)
    report: dict[str, Any] = {"loras": len(table), "diverged": len(table) - len(kept)}
    report["balance"] = _balance(kept, targets)
    with threadpool_limits(1):
        report["scores"] = {
            name: _score(kept, name, targets) for name in sampled if len(kept) >= 2 * FOLDS
        }
    report["hyper_at_most_half"] = at_most_half(report["scores"])
    report["ceilings"] = {
        name: _ceiling(kept, name) if name in sampled else {_metric(target): 1.0}
        for name, target in targets.items()
    }
    return report


def _metric(target: Mapping[str, Any]) -> str:
    """The metric that a target names, or the usual one of its kind."""
    return str(target.get("metric") or DEFAULT_METRIC[target["kind"]])


def _score(table: Any, name: str, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    values = column(table, f"label:{name}")
    facts = distribution(values, targets[name].get("base_value"))
    hyper = _hyper(table)
    facts["hyper_r2"], _ = explained(hyper, values)
    facts["known_r2"], _ = explained(np.c_[hyper, _known(table, targets)], values)
    return facts


def _hyper(table: Any) -> Array:
    """Hyper-parameters, the rate as its logarithm, the prompt as one column each: (b, h)."""
    columns = []
    for name in sorted(n for n in table.column_names if n.startswith("hyper:")):
        values = column(table, name)
        if name == "hyper:prompt":
            columns += [(values == prompt).astype(float) for prompt in np.unique(values)]
        else:
            columns.append(np.log(values) if name == "hyper:learning_rate" else values)
    return np.stack(columns, 1)


def _known(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> Array:
    """What was on the pictures: every label that was not sampled, (b, labels)."""
    columns = [np.zeros((len(table), 0))]  # a family may know nothing of its pictures
    for name, target in targets.items():
        if f"label:{name}{AGAIN}" in table.column_names:
            continue
        if target["kind"] == "multiclass":  # the number or the name of a class is no quantity
            classes = np.array([str(value) for value in table[f"label:{name}"].to_pylist()])
            columns.append((classes[:, None] == np.unique(classes)).astype(float))
        else:
            columns.append(column(table, f"label:{name}").reshape(len(table), -1))
    return np.concatenate(columns, 1)


def _ceiling(table: Any, name: str) -> dict[str, float]:
    first, again = column(table, f"label:{name}"), column(table, f"label:{name}{AGAIN}")
    twice = np.isfinite(again)
    count = int(twice.sum())
    if count < FOLDS or (spread := first.var()) == 0:
        return {"scored_twice": count}
    # noise that all LoRAs share moves none against another: what differs between them is left
    noise = float((first[twice] - again[twice]).var(ddof=1)) / 2
    lost = noise / spread
    return {
        "scored_twice": count,
        "r2": round(max(1 - lost, 0.0), 4),
        "r2_se": round(lost * (2 / (count - 1)) ** 0.5, 4),
        "noise_sd": round(noise**0.5, 4),
    }


def _balance(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, target in targets.items():
        if target["kind"] == "multilabel" and len(table):
            shares = column(table, f"label:{name}").mean(0)
            found[name] = {
                "majority": round(float(np.maximum(shares, 1 - shares).mean()), 4),
                **{k: round(float(s), 4) for k, s in zip(target["classes"], shares, strict=True)},
            }
    return found
