"""One answer: what a predictor says of one LoRA, with the facts a reader needs to judge it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorascope.predict.target import Target

#: From this probability on, a class of a multi-label target counts as predicted.
PRESENT = 0.5


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one LoRA.

    `value` is set for regression, in the units of the label; `probabilities` for the other kinds,
    one per class (multi-class: they sum to 1); `label` is the most probable class of a multi-class
    target. `coverage` is the fraction of the predictor's layers that the LoRA has. `held_out` are
    the scores of the predictor on LoRAs that it never saw (rmse in the units of the label,
    accuracy, ...): how good such answers are. `warnings` are sentences.
    """

    target: Target
    value: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None
    coverage: float = 1.0
    held_out: Mapping[str, float | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The predicted classes: at least 0.5 for multi-label, the most probable for multi-class."""
        if self.target.kind == "multiclass":
            return (self.label,) if self.label is not None else ()
        return tuple(name for name, p in self.probabilities.items() if p >= PRESENT)

    def to_json(self) -> dict[str, Any]:
        """Plain data: only the fields that the kind of target has."""
        data: dict[str, Any] = {"target": self.target.name, "kind": self.target.kind}
        if self.target.kind == "regression":
            data |= {"value": self.value, "unit": self.target.unit}
        else:
            data |= {"labels": list(self.labels), "probabilities": dict(self.probabilities)}
        return data | {
            "coverage": self.coverage,
            "held_out": dict(self.held_out),
            "warnings": list(self.warnings),
        }
