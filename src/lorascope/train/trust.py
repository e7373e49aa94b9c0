"""What a trained predictor learns about its own answers from the rows that were held out for validation.

    validation rows --> calibrated probabilities, or an interval;  training and validation rows --> outliers
    test rows       --> how well that holds: written to the report, never learned from

The validation rows also stopped the training, so that they look a little too good; the report's numbers, which
come from the test rows, do not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorascope.errors import DataError
from lorascope.predict.calibration import calibration_error, fit_probability_map
from lorascope.predict.intervals import coverage, fit_interval
from lorascope.predict.outlier import Outliers
from lorascope.predict.predictor import Predictor, read_outputs
from lorascope.predict.trust import Trust
from lorascope.train.data import LabelledLoRAs
from lorascope.train.learn import select
from lorascope.train.splits import Rows, Split

__all__ = ["FEWEST", "absolute_errors", "learn_outliers", "learn_trust", "trust_report"]

Array = NDArray[np.float64]
FEWEST = 20  # LoRAs, below which nothing is learned of a part


def learn_outliers(data: LabelledLoRAs, train: Rows, held: Rows, seed: int = 0) -> Outliers | None:
    """The detectors of some training rows; None where there are too few to compare with."""
    if min(len(train), len(held)) < FEWEST:
        return None
    outliers = Outliers(data.batch.signature)
    outliers.fit(select(data.batch, train), select(data.batch, held), seed)
    return outliers


def learn_trust(
    predictor: Predictor, data: LabelledLoRAs, rows: Rows, outliers: Outliers | None = None
) -> Trust:
    """Calibration or interval from validation rows, beside detectors that were learned already."""
    target = predictor.target
    if len(rows) < FEWEST:
        return Trust(outliers=outliers, side=data.side, always=data.always)
    raw = predictor.raw_outputs(select(data.batch, rows))
    truth, groups = data.labels[target.name][rows], groups_at(data, rows)
    if target.kind == "regression":
        values = read_outputs(target, predictor.scaler, raw)
        return Trust(
            interval=fit_interval(absolute_errors(predictor, truth, values), groups),
            outliers=outliers,
            side=data.side,
            always=data.always,
        )
    probabilities = fit_probability_map(target.kind, raw.double().cpu().numpy(), truth, groups)
    trust = Trust(probabilities, None, outliers, data.side, data.always)
    if target.kind == "multilabel":
        return trust
    found = read_outputs(target, predictor.scaler, raw, trust)
    interval = fit_interval(absolute_errors(predictor, truth, found), groups)
    return Trust(probabilities, interval, outliers, data.side, data.always)


def trust_report(predictor: Predictor, data: LabelledLoRAs, split: Split) -> dict[str, Any]:
    """How well what was learned holds on the test rows, as plain data.

    `calibration_error` before and after; `interval` with the share of test labels inside, and over 50 divisions
    of validation and test rows, where there are enough; `flagged`, the share of test LoRAs that are called
    outliers.
    """
    target, trust, rows = predictor.target, predictor.trust, split.test
    raw = predictor.raw_outputs(select(data.batch, rows))
    truth = data.labels[target.name][rows]
    report: dict[str, Any] = {}
    if trust.probabilities is not None:
        pair = [read_outputs(target, predictor.scaler, raw, given) for given in (None, trust)]
        before, after = (calibration_error(target.kind, p, truth) for p in pair)
        report["calibration_error"] = {"before": before, "after": after}
    if trust.interval is not None:
        values = read_outputs(target, predictor.scaler, raw, trust)
        inside = absolute_errors(predictor, truth, values) <= trust.interval.half
        report["interval"] = trust.interval.to_json() | {"inside": float(inside.mean())}
        if (found := _coverage(predictor, data, split)) is not None:
            report["interval"]["divisions"] = found
    if trust.outliers is not None:
        beyond = trust.outliers.scores(select(data.batch, rows)) > 1
        report["flagged"] = float(beyond.double().mean())
    return report


def absolute_errors(predictor: Predictor, truth: Array, outputs: Array) -> Array:  # (b, k) -> (b,)
    """What intervals are made of: distances of values, or 1 - p of the true class."""
    if predictor.target.kind == "regression":
        return np.asarray(np.abs(truth - outputs)[:, 0])
    if predictor.target.kind == "multiclass":
        return np.asarray(1 - (truth * outputs).sum(1))
    raise DataError(
        f"Measuring errors of {predictor.target.name!r}: found kind 'multilabel', expected values or "
        "one class of each LoRA. Try its probabilities."
    )


def groups_at(data: LabelledLoRAs, rows: Rows) -> list[str] | None:
    """The groups of some rows, None when nobody knows them."""
    return None if data.groups is None else [str(data.groups[int(row)]) for row in rows]


def _coverage(predictor: Predictor, data: LabelledLoRAs, split: Split) -> dict[str, float] | None:
    rows = np.concatenate([split.validation, split.test])
    names = groups_at(data, rows)
    if len(set(names or rows.tolist())) < FEWEST:
        return None
    truth = data.labels[predictor.target.name][rows]
    errors = absolute_errors(predictor, truth, predictor.outputs(select(data.batch, rows)))
    return coverage(errors, names).to_json()
