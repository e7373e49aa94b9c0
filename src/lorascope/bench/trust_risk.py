"""What abstention buys on a mixture: test LoRAs with as many of a second version and of another base.

    doubt   outlier score;  for labels also 1 - the highest probability, or the mean of min(p, 1 - p)
    loss    |value - label| / deviation of the training labels;  share of wrong labels

Values are compared as values: of another base a predictor knows the value of its own base, and what it predicts
is that plus the change (as in `jobs`). One interval for all has one width, which is no doubt to sort by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorascope.bench.answers import BATCH, read_alike
from lorascope.core.batch import LoRABatch
from lorascope.predict.predictor import Predictor, read_outputs
from lorascope.predict.risk_coverage import risk_coverage
from lorascope.predict.target import Target
from lorascope.train.data import LabelledLoRAs

__all__ = ["BY_SCORE", "SHARES", "VALUES", "Part", "answers_of", "risks"]

Array = NDArray[np.float64]
SHARES = (1.0, 0.9, 0.8, 0.5)
#: Name of the row that is the mean over all value targets, and of the doubt that abstention goes by.
VALUES, BY_SCORE = "all values", "outlier score"
BY_PROBABILITY = {"multiclass": "1 - highest p", "multilabel": "mean of min(p, 1 - p)"}


@dataclass(frozen=True, eq=False)
class Part:
    """LoRAs of one kind; `moves` are its base's values minus those of the base that was learned from."""

    data: LabelledLoRAs
    moves: Mapping[str, float]

    def truth(self, target: Target) -> Array:  # (b, k)
        """The labels against the base that was learned from, NaN where there are none."""
        labels = self.data.labels.get(target.name)
        if labels is None:
            return np.full((len(self.data), target.out_features), np.nan)
        return labels + self.moves.get(target.name, 0.0)


def risks(
    predictors: Mapping[str, Predictor],
    parts: Mapping[str, Part],
    deviations: Mapping[str, float],
    seed: int = 0,
) -> dict[str, Any]:
    """The risks of equal numbers of all parts, by target and doubt, and the curve of all values.

    Predictors must have learned what tells outliers. Missing labels take no part.
    """
    count = min(len(part.data) for part in parts.values())
    chosen = [_some(part, count, seed) for part in parts.values()]
    trust = next(iter(predictors.values())).trust
    verdicts = [v for part in chosen for v in trust.verdicts(part.data.batch)]
    score = np.array([np.nan if v is None else v.score for v in verdicts])
    answers = [answers_of(predictors, part.data.batch) for part in chosen]
    rows: list[dict[str, Any]] = []
    values: list[Array] = []
    for name, predictor in predictors.items():
        target = predictor.target
        outputs = np.concatenate([answer[name] for answer in answers])
        truth = np.concatenate([part.truth(target) for part in chosen])
        loss = _loss(target, outputs, truth, deviations.get(name, 1.0))
        rows.append(_row(name, BY_SCORE, score, loss, score))
        if target.kind == "regression":
            values.append(loss)
        else:
            doubt = _improbable(target, outputs)
            rows.append(_row(name, BY_PROBABILITY[target.kind], doubt, loss, None))
    found: dict[str, Any] = {"parts": dict.fromkeys(parts, count)}
    if values:
        known = ~np.isnan(np.stack(values)).all(0)
        mean = np.full(len(score), np.nan)
        mean[known] = np.nanmean(np.stack(values)[:, known], 0)
        rows.insert(0, _row(VALUES, BY_SCORE, score, mean, score))
        found["curve"] = _curve(score, mean)
    return found | {"rows": [row for row in rows if row["count"]]}


def answers_of(predictors: Mapping[str, Predictor], batch: LoRABatch) -> dict[str, Array]:
    """Values and calibrated probabilities, each LoRA being read once for all that allow it."""
    found: dict[str, Array] = {}
    for names in read_alike(predictors, batch.select(slice(0, 2))):
        raw: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        model = predictors[names[0]].model
        with torch.no_grad():
            for start in range(0, batch.size, BATCH):
                part = batch.select(slice(start, start + BATCH)).to(model.dtype, model.device)
                features = model.features(part)
                for name in names:
                    raw[name].append(predictors[name].model.score(features))
        for name in names:
            one = predictors[name]
            found[name] = read_outputs(one.target, one.scaler, torch.cat(raw[name]), one.trust)
    return found


def _some(part: Part, count: int, seed: int) -> Part:
    """As many LoRAs of a part, drawn by the seed."""
    rows = np.random.default_rng(seed).permutation(len(part.data))[:count]
    return Part(part.data.select(np.sort(rows).astype(np.int64)), part.moves)


def _loss(target: Target, outputs: Array, truth: Array, deviation: float) -> Array:  # (b,)
    """Of each LoRA, NaN where its label is missing."""
    known = ~np.isnan(truth).any(1)
    loss = np.full(len(truth), np.nan)
    if target.kind == "regression":
        loss[known] = np.abs(outputs - truth)[known, 0] / deviation
    elif target.kind == "multiclass":
        loss[known] = (outputs.argmax(1) != truth.argmax(1))[known]
    else:
        loss[known] = ((outputs > 0.5) != (truth > 0.5)).mean(1)[known]
    return loss


def _improbable(target: Target, outputs: Array) -> Array:  # (b,)
    """How often the answer is wrong by its own probabilities."""
    if target.kind == "multiclass":
        return np.asarray(1 - outputs.max(1))
    return np.asarray(np.minimum(outputs, 1 - outputs).mean(1))


def _row(name: str, by: str, doubt: Array, loss: Array, score: Array | None) -> dict[str, Any]:
    """Risks at some shares; those at the limit of abstention where the doubt is the outlier score."""
    known = np.isfinite(loss) & np.isfinite(doubt)
    row: dict[str, Any] = {"target": name, "doubt": by, "count": int(known.sum())}
    if not known.any():
        return row
    curve = risk_coverage(doubt[known], loss[known])
    row |= {f"at {share:g}": round(curve.at(share), 6) for share in SHARES}
    row |= {"area": round(curve.area, 6)}
    if score is not None:
        answered = score[known] <= 1
        row["answered"] = round(float(answered.mean()), 6)
        row["at limit"] = round(float(loss[known][answered].mean()), 6) if answered.any() else None
    return row


def _curve(doubt: Array, loss: Array) -> dict[str, Any]:
    known = np.isfinite(loss) & np.isfinite(doubt)
    if not known.any():
        return {}
    curve = risk_coverage(doubt[known], loss[known])
    return {
        "coverage": _listed(curve.coverage),
        "risk": _listed(curve.risk),
        "area": round(curve.area, 6),
        "random": round(curve.random, 6),
    }


def _listed(values: Array) -> Sequence[float]:
    return [round(float(x), 6) for x in values]
