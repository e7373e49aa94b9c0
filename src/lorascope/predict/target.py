"""A target: the quantity that is predicted from the weights of an adapter, and its task type.

It says how labels become the numbers a model is trained on and how a model's outputs become
probabilities. It holds no label and no metric code: the metrics are in `train`, labels are data.

    regression   k = 1,             y = the label (scaled elsewhere)     output = the value
    multilabel   k = len(classes),  y in {0, 1}                          output = logits
    multiclass   k = len(classes),  y = one-hot                          output = logits
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from lorascope.errors import DataError

Kind = Literal["regression", "multilabel", "multiclass"]

#: The metric in which a task type is reported unless its target names another.
DEFAULT_METRIC: dict[str, str] = {
    "regression": "r2",
    "multilabel": "accuracy",
    "multiclass": "accuracy",
}


@dataclass(frozen=True)
class Target:
    """What is predicted: a name, a task type, the classes, the metric of tables, the unit.

    Raises DataError when the kind is unknown or the classes do not fit it.

    >>> Target("sources", "multilabel", ("history", "chemistry")).out_features
    2
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    metric: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise DataError(
                f"Target {self.name!r}: found kind {self.kind!r}, expected one of "
                f"{', '.join(get_args(Kind))}."
            )
        least = {"regression": 0, "multilabel": 1, "multiclass": 2}[self.kind]
        if len(self.classes) < least or (self.kind == "regression" and self.classes):
            raise DataError(
                f"Target {self.name!r} ({self.kind}): found {len(self.classes)} classes, expected "
                f"{'none' if self.kind == 'regression' else f'at least {least}'}."
            )
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"Target {self.name!r}: a class is named twice in {self.classes}.")
        if not self.metric:
            object.__setattr__(self, "metric", DEFAULT_METRIC[self.kind])

    @property
    def out_features(self) -> int:
        """k, the number of outputs of a model for this target."""
        return len(self.classes) or 1

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of `from_json`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "classes": list(self.classes),
            "metric": self.metric,
            "unit": self.unit,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], name: str | None = None) -> "Target":
        """A target from plain data; `name` when the data stands under its name.

        Keys that a target does not know (a base value, a description) are left to the reader.
        Raises DataError when the kind is missing or unknown.
        """
        found = str(data.get("name", name or ""))
        if "kind" not in data or not found:
            raise DataError(
                f"Reading target {found!r}: found the keys {sorted(data)}, expected at least "
                "'name' and 'kind'."
            )
        return cls(
            name=found,
            kind=cast(Kind, data["kind"]),
            classes=tuple(str(name) for name in data.get("classes", ())),
            metric=str(data.get("metric", "") or ""),
            unit=str(data.get("unit", "") or ""),
        )


def encode_labels(target: Target, labels: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """The labels as numbers, (b, k) float64; a row with a missing label holds NaN throughout.

    Multi-class labels are class names or class indices. Missing is None or NaN.
    Raises DataError naming the first label that does not fit the target.
    """
    if target.kind == "regression":
        return _numbers(target, labels, width=1)
    if target.kind == "multilabel":
        rows = _numbers(target, labels, width=target.out_features)
        known = rows[~np.isnan(rows)]
        if not np.isin(known, (0.0, 1.0)).all():
            raise DataError(
                f"Encoding labels of {target.name!r} (multilabel): found the value "
                f"{known[~np.isin(known, (0.0, 1.0))][0]:g}, expected 0, 1, true, false or missing."
            )
        return rows
    return _one_hot(target, labels)


def _numbers(target: Target, labels: Any, *, width: int) -> NDArray[np.float64]:
    missing = [np.nan] * width
    rows = [missing if _is_missing(label) else np.ravel(label).tolist() for label in labels]
    try:
        table = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1 if rows else width)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Encoding labels of {target.name!r} ({target.kind}): {error}. Expected {width} "
            "number(s) in each row."
        ) from error
    if table.shape[1] != width:
        raise DataError(
            f"Encoding labels of {target.name!r} ({target.kind}): found {table.shape[1]} numbers "
            f"in a row, expected {width}."
        )
    if np.isinf(table).any():
        row = int(np.isinf(table).any(axis=1).argmax())
        raise DataError(
            f"Encoding labels of {target.name!r}: row {row} is infinite. Leave a label empty (NaN) "
            "to leave its row out."
        )
    table[np.isnan(table).any(axis=1)] = np.nan
    return table


def _one_hot(target: Target, labels: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    table = np.zeros((len(labels), target.out_features))
    for row, label in enumerate(labels):
        if _is_missing(label):
            table[row] = np.nan
        else:
            table[row, _class_index(target, label)] = 1.0
    return table


def _class_index(target: Target, label: Any) -> int:
    if isinstance(label, str) and label in target.classes:
        return target.classes.index(label)
    if (
        not isinstance(label, str)
        and float(label).is_integer()
        and 0 <= label < target.out_features
    ):
        return int(label)
    raise DataError(
        f"Encoding labels of {target.name!r} (multiclass): found {label!r}, expected one of "
        f"{', '.join(target.classes)} or an index below {target.out_features}."
    )


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    return isinstance(label, float | np.floating) and bool(np.isnan(label))
