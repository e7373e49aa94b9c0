"""One answer: what a predictor says of one LoRA, with the facts a reader needs to judge it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorascope.predict.target import Target
from lorascope.predict.words import in_words

#: From this probability on, a class of a multi-label target counts as predicted.
PRESENT = 0.5
#: Above this outlier score a prediction abstains.
LIMIT = 1.0


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one LoRA.

    `value` is set for regression, in the units of the label; `probabilities` for the other kinds,
    one per class (multi-class: they sum to 1); `label` is the most probable class of a multi-class
    target. `coverage` is the fraction of the predictor's layers that the LoRA has. `held_out` are
    the scores of the predictor on LoRAs that it never saw (rmse in the units of the label,
    accuracy, ...): how good such answers are. `warnings` are sentences.

    `interval` holds the label of a regression, `possible` the class of a multi-class target, with
    probability `level`, for LoRAs like those of training. `outlier` says how unlike those the LoRA is:
    1 is the limit, above it the predictor `abstains` and `reason` says in what. They are missing where
    the predictor did not learn them.
    """

    target: Target
    value: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None
    coverage: float = 1.0
    held_out: Mapping[str, float | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    interval: tuple[float, float] | None = None
    possible: tuple[str, ...] = ()
    level: float | None = None
    outlier: float | None = None
    reason: str = ""

    @property
    def abstains(self) -> bool:
        """Whether the answer should not be relied on: the LoRA is unlike those of training."""
        return self.outlier is not None and not self.outlier <= LIMIT

    @property
    def labels(self) -> tuple[str, ...]:
        """The predicted classes: at least 0.5 for multi-label, the most probable for multi-class."""
        if self.target.kind == "multiclass":
            return (self.label,) if self.label is not None else ()
        return tuple(name for name, p in self.probabilities.items() if p >= PRESENT)

    def __str__(self) -> str:
        """The answer in one line: target, value and interval or classes, and why it abstains."""
        said = f"{self.target.name}: {in_words(self.to_json())}"
        return f"{said}; abstains: {self.reason}" if self.abstains else said

    def to_json(self) -> dict[str, Any]:
        """Plain data: only the fields that the kind of target has."""
        data: dict[str, Any] = {"target": self.target.name, "kind": self.target.kind}
        if self.target.kind == "regression":
            data |= {"value": self.value, "unit": self.target.unit}
            data |= {} if self.interval is None else {"interval": list(self.interval)}
        else:
            data |= {"labels": list(self.labels), "probabilities": dict(self.probabilities)}
            data |= {"possible": list(self.possible)} if self.possible else {}
        if self.level is not None:
            data["level"] = self.level
        if self.outlier is not None:
            data |= {"outlier": self.outlier, "abstains": self.abstains, "reason": self.reason}
        return data | {
            "coverage": self.coverage,
            "held_out": dict(self.held_out),
            "warnings": list(self.warnings),
        }
