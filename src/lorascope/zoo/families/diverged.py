"""Adapters whose training diverged have no scores.

Their last finite factors answer something: logits of NaN have their largest at the first option, which makes
an accuracy of a quarter. That is no label. What is known of the data alone stays.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lorascope.zoo.engine.fitted import Fitted

__all__ = ["without_scores"]


def without_scores(
    rows: Sequence[Mapping[str, Any]], fitted: Fitted, known: Collection[str]
) -> list[dict[str, Any]]:
    """The labels of adapters, None for the scores of those that diverged.

    Args:
        rows: of each adapter, name -> value.
        known: labels that follow from the data and stay.
    """
    return [
        {name: value if sound or name in known else None for name, value in row.items()}
        for row, sound in zip(rows, fitted.finite.tolist(), strict=True)
    ]
