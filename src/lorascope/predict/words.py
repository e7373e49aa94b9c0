"""Predictions as a person reads them, made of their documents (`Prediction.to_json`). It prints nothing."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["in_words", "number"]

CLASSES_SHOWN = 24

Document = Mapping[str, Any]


def in_words(prediction: Document) -> str:
    """The answer itself: a value with its unit, or the predicted classes with their probabilities."""
    if prediction["kind"] == "regression":
        value = f"{number(prediction['value'], '.4g')} {prediction['unit']}".rstrip()
        if "interval" not in prediction or "level" not in prediction:
            return value
        # of too few held-out groups an interval is all numbers, whose ends are null
        ends = [end if end is not None else math.inf for end in prediction["interval"]]
        low = -ends[0] if math.isinf(ends[0]) else ends[0]
        return f"{value}, {low:.4g} to {ends[1]:.4g} ({100 * prediction['level']:.0f} %)"
    chances = prediction["probabilities"]
    chosen = sorted(prediction["labels"], key=lambda name: -chances[name])
    words = [f"{name} {chances[name]:.2f}" for name in chosen[:CLASSES_SHOWN]]
    more = len(chosen) - CLASSES_SHOWN
    return ", ".join(words) + (f", and {more} more" if more > 0 else "") if words else "none"


def number(value: float | None, style: str) -> str:
    """The number in a style, "nan" for one that a document cannot say."""
    return "nan" if value is None else format(value, style)
