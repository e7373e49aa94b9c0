"""How well outliers are told: the area under the ROC curve, and the share beyond the limit, of each kind.

    should pass     test LoRAs, re-gauged, rounded to bfloat16 and float16, thinned and cut to half the rank
    should not      means of two, of five, of two at the old rank; layers of unlike LoRAs; random directions

The last two keep norm and spectrum of every layer. Others' LoRAs (another base, method or rank) are given.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lorascope.core.batch import LoRABatch
from lorascope.predict.outlier import Outliers
from lorascope.predict.pretence import blend, cut, mix, randomise, thin
from lorascope.symmetry import act, random_gauges

__all__ = ["ExamRow", "examine_outliers", "pretended"]

PASS = ("test", "re-gauged", "bfloat16", "float16", "thinned", "cut")
"""Kinds of `pretended` that a good detector lets pass."""


@dataclass(frozen=True)
class ExamRow:
    """Of one kind: how many, the area under the ROC curve against test LoRAs, the share beyond the limit."""

    kind: str
    count: int
    auroc: float
    flagged: float


def pretended(batch: LoRABatch, seed: int = 0) -> dict[str, LoRABatch]:
    """Every kind that can be made of test LoRAs, by name.

    Example:
        >>> sorted(set(PASS) - set(pretended(batch)))
        []
    """
    generator = torch.Generator().manual_seed(seed)
    half = max(1, batch.rank // 2)
    pairs = blend(batch, 2, generator)
    return {
        "test": batch,
        "re-gauged": act(random_gauges(batch, generator=generator), batch),
        "bfloat16": batch.to(torch.bfloat16),
        "float16": batch.to(torch.float16),
        "thinned": thin(batch, half, generator),
        "cut": cut(batch, half),
        "mean of 2": pairs,
        "mean of 2, old rank": cut(pairs, batch.rank),
        "mean of 5": blend(batch, 5, generator),
        "mixed layers": mix(batch, generator),
        "random": randomise(batch, generator),
    }


def examine_outliers(
    outliers: Outliers,
    test: LoRABatch,
    others: Mapping[str, LoRABatch] | None = None,
    seed: int = 0,
) -> list[ExamRow]:
    """A row for each kind made of the test LoRAs, and for each of the others.

    >>> examine_outliers(predictor.trust.outliers, test, {"other base": control})  # doctest: +SKIP
    """
    usual = outliers.scores(test).numpy()
    return [
        _row(kind, usual, outliers.scores(batch).numpy())
        for kind, batch in {**pretended(test, seed), **(others or {})}.items()
    ]


def _row(kind: str, usual: NDArray[np.float32], scores: NDArray[np.float32]) -> ExamRow:
    truth = [0] * len(usual) + [1] * len(scores)
    area = float(roc_auc_score(truth, np.concatenate([usual, scores])))
    return ExamRow(kind, len(scores), area, float((scores > 1).mean()))
