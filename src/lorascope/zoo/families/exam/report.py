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
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from lorascope.zoo.families.label_statistics import (
    FOLDS,
    at_most_half,
    column,
    correlation,
    distribution,
    explained,
    halves,
    hyper_of,
    reliability,
    sources_of,
)

__all__ = ["DIVERGED", "exam_report"]

DIVERGED = 2.0

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


def ceilings(table: Any, of_halves: float) -> dict[str, dict[str, float]]:
    """What a perfect predictor of each target could reach, with the correlation of the halves."""
    found = {
        "sources": {"accuracy": 1.0},
        "dataset_size": {"r2": 1.0},
        "accuracy": {"r2": reliability(of_halves)},
    }
    if "label:eval_loss_again" in table.column_names:
        pair = (column(table, f"label:eval_loss{again}") for again in ("", "_again"))
        found["eval_loss"] = {"r2": round(max(correlation(*pair), 0.0), 4)}
    return found


def diverged(table: Any, base_loss: float) -> NDArray[np.bool_]:
    """Which LoRAs are left out: (b,) bool."""
    loss = column(table, "label:eval_loss")
    finite = np.isfinite(loss) & ~column(table, "diverged").astype(bool)
    return ~finite | (np.where(finite, loss, 0) > base_loss + DIVERGED)


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
