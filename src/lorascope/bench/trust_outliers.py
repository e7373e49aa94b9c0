"""Outliers on one split: a row of each kind, of what is made of test LoRAs, of other zoos and other methods.

Detectors are learned from the training and validation LoRAs of the split, as `fit_many` learns them, and no
model is: a split costs seconds. Where side tensors decide (DoRA's magnitudes) there are two rows, by the pairs
alone and as `predict` judges. What it is not: what is asked of a kind, and its tables, which are `trust_kinds`.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lorascope.core.batch import LoRABatch
from lorascope.errors import DataError
from lorascope.predict.outlier import Verdict
from lorascope.predict.trust import Trust, kinds_beside
from lorascope.train.data import LabelledLoRAs
from lorascope.train.fit import default_split
from lorascope.train.outlier_exam import ExamRow, examine_outliers, row_of, size_of
from lorascope.train.splits import Split
from lorascope.train.trust import FEWEST, learn_outliers

__all__ = ["PAIRS", "examine_split", "too_few"]

PAIRS = ", by its pairs alone"


def examine_split(
    zoo: str,
    data: LabelledLoRAs,
    others: Mapping[str, tuple[str, LoRABatch]],
    made: Mapping[str, LoRABatch],
    seed: int,
) -> dict[str, Any]:
    """The rows of one split as plain data.

    Args:
        zoo: its name.
        data: the zoo.
        others: zoo -> what its LoRAs are to this one, and they.
        made: kind -> adapters of the zoo's base that are in no zoo.
        seed: of the split and of all that is drawn.

    Raises DataError for a zoo with too few LoRAs to learn what tells outliers.
    """
    began = time.process_time()
    split = default_split(data, seed)
    outliers = learn_outliers(data, split.train, split.validation, seed)
    if outliers is None:
        raise too_few(zoo, split)
    trust = Trust(outliers=outliers, side=data.side, always=data.always)
    test = data.select(split.test).batch
    batches = {name: batch for name, (_, batch) in others.items()} | dict(made)
    rows = []
    for row in examine_outliers(outliers, test, batches, seed):
        if row.kind not in others:
            rows.append(_plain(row, row.kind, None))
            continue
        kind, batch = others[row.kind]
        if any(_beside(trust, kinds) for kinds in kinds_beside(batch)):
            rows.append(_plain(row, kind + PAIRS, row.kind))
            usual, found = (_verdicts(trust, some) for some in (test, batch))
            row = row_of(row.kind, usual, found, size_of(batch, test))
        rows.append(_plain(row, kind, row.kind))
    return {
        "rows": dict(zip(("train", "validation", "test"), map(len, split.parts()), strict=True)),
        "outliers": rows,
        "seconds": round(time.process_time() - began, 1),
    }


def too_few(zoo: str, split: Split) -> DataError:
    """Why the trust of a zoo cannot be examined."""
    return DataError(
        f"Examining the trust of {zoo}: found {len(split.validation)} LoRAs to validate and "
        f"{len(split.train)} to learn from, expected at least {FEWEST} of each. Try a larger zoo."
    )


def _beside(trust: Trust, kinds: set[str]) -> bool:
    """Whether side tensors, or that there are none, put a LoRA beyond the limit."""
    unknown = set() if trust.side is None else kinds - set(trust.side)
    return bool(unknown or set(trust.always) - kinds)


def _verdicts(trust: Trust, batch: LoRABatch) -> Sequence[Verdict]:
    """As `predict` gives them, with the rule of side tensors."""
    return [verdict for verdict in trust.verdicts(batch) if verdict is not None]


def _plain(row: ExamRow, kind: str, zoo: str | None) -> dict[str, Any]:
    numbers = {k: round(x, 6) if isinstance(x, float) else x for k, x in asdict(row).items()}
    numbers["size"] = None if math.isnan(row.size) else numbers["size"]
    rules = {rule: round(share, 6) for rule, share in row.rules.items()}
    return numbers | {"rules": rules, "kind": kind, "zoo": zoo}
