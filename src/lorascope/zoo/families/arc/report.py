"""Whether the labels of a zoo of ARC are worth predicting: spreads, reliability, what explains them.

hyper      R^2 of hyper-parameters alone, cross-validated
known      R^2 of the true sources and hyper-parameters together
halves     correlation of the accuracy on every other question with that on the rest
ceilings   of the accuracy, from its halves: 2 c / (1 + c) (Spearman-Brown)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from lorascope.zoo.families.label_statistics import (
    column,
    distribution,
    explained,
    halves,
    hyper_of,
    reliability,
    sources_of,
)

__all__ = ["arc_report"]

FEWEST = 10  # LoRAs for a cross-validation


def arc_report(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Distributions, reliabilities and explanations of the labels of a zoo.

    Args:
        table: the zoo's index (pyarrow), with the columns that `ArcFamily.evaluate` gives.
        targets: of the family.
    """
    scores = [name for name, target in targets.items() if target["kind"] == "regression"]
    columns = [column(table, f"label:{name}") for name in scores]
    sound = np.isfinite(np.stack(columns)).all(0) & ~column(table, "diverged").astype(bool)
    kept = table.filter(sound)
    report: dict[str, Any] = {"loras": len(table), "diverged": int((~sound).sum()), "scores": {}}
    if not len(kept):
        return report
    for name in scores:
        report["scores"][name] = distribution(column(kept, f"label:{name}"), _base(kept, name))
    if len(kept) >= FEWEST:
        with threadpool_limits(1):
            _explain(report, kept)
    return report


def _base(table: Any, name: str) -> float | None:
    """The base's own score: what is left when the gain is taken away."""
    if f"label:{name}_gain" not in table.column_names:
        return None
    return float((column(table, f"label:{name}") - column(table, f"label:{name}_gain")).mean())


def _explain(report: dict[str, Any], kept: Any) -> None:
    hyper, sources = hyper_of(kept), sources_of(kept)
    for name, facts in report["scores"].items():
        values = column(kept, f"label:{name}")
        facts["hyper_r2"], _ = explained(hyper, values)
        facts["known_r2"], _ = explained(np.c_[hyper, sources], values)
    report["halves"] = halves(kept, hyper)
    report["ceilings"] = {"accuracy": {"r2": reliability(report["halves"]["correlation"])}}
