"""How well outliers are told: the area under the ROC curve, and the share beyond the limit, of each kind.

    should pass     test LoRAs, re-gauged, rounded to bfloat16 and float16, thinned and cut to half the rank
    should not      means of two, of five, of two at the old rank; layers of unlike LoRAs; random directions
    merges          as others merge (`merges`), which the detector of merges was not taught

Mixed layers and random directions keep norm and spectrum of every layer. Others' LoRAs (another base, method
or rank) are given. Beside each number stands which rule puts LoRAs of the kind beyond the limit, and how large
they are against test LoRAs: what is told by its size alone is told by little.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from lorascope.core.batch import LoRABatch
from lorascope.predict.outlier import Outliers, Verdict
from lorascope.predict.pretence import blend, cut, mix, randomise, thin
from lorascope.symmetry import act, random_gauges
from lorascope.symmetry.invariants import norms
from lorascope.train.merges import merges

__all__ = ["PASS", "ExamRow", "examine_outliers", "pretended", "row_of", "size_of"]

PASS = ("test", "re-gauged", "bfloat16", "float16", "thinned", "cut")
"""Kinds of `pretended` that a good detector lets pass."""

MERGED = 256  # test LoRAs that are merged: TIES forms dense updates and decomposes them
RULES = 3  # named of a kind


@dataclass(frozen=True)
class ExamRow:
    """Of one kind: how many, the area under the ROC curve against test LoRAs, the share beyond the limit.

    `size` is the median norm of a layer against that of the test LoRAs; `rules` the share that each rule has
    among those beyond the limit, the most frequent first.
    """

    kind: str
    count: int
    auroc: float
    flagged: float
    size: float = 1.0
    rules: Mapping[str, float] = field(default_factory=dict)


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
        **merges(batch.select(slice(0, MERGED)), generator),
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
    usual = outliers.verdicts(test)
    return [
        row_of(kind, usual, outliers.verdicts(batch), size_of(batch, test))
        for kind, batch in {**pretended(test, seed), **(others or {})}.items()
    ]


def row_of(kind: str, usual: Sequence[Verdict], found: Sequence[Verdict], size: float) -> ExamRow:
    """The row of a kind, from the verdicts on test LoRAs and on its own."""
    truth = np.repeat([0, 1], [len(usual), len(found)])
    area = float(roc_auc_score(truth, [verdict.score for verdict in (*usual, *found)]))
    beyond = [verdict.rule for verdict in found if verdict.abstain]
    rules = {rule: count / len(beyond) for rule, count in Counter(beyond).most_common(RULES)}
    return ExamRow(kind, len(found), area, len(beyond) / len(found), size, rules)


def size_of(batch: LoRABatch, test: LoRABatch) -> float:
    """The median norm of the layers of some LoRAs, each against the median of that layer of the test LoRAs."""
    own, usual = (norms(some.to(torch.float32)) for some in (batch, test))  # (b, L)
    ratio = own / torch.where(usual > 0, usual, torch.nan).nanmedian(0).values
    return float(ratio[batch.present].nanmedian())
