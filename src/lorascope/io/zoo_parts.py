"""What recipe and index of a zoo have to be before anything in them is used: a zoo may come from anywhere.

    recipe.json     an object; each target in it an object; the recipes that a sample or a merge names, too
    splits.json     three fractions that are shares of one
    index.parquet   a row or more; places as whole numbers from 0, provenance as text, labels of their kind

What is found is said in words that go on from the name of the file; whether labels and hashes hold is asked by
`zoo verify`, not here.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["fault_of_index", "fault_of_recipe", "fault_of_splits"]

PLACES = ("id", "shard", "row", "rank")
TEXTS = ("group", "sha256", "provenance")


def fault_of_recipe(recipe: Any) -> str:
    """Why a recipe cannot be used, empty where it can.

    Example:
        >>> fault_of_recipe({"targets": {"score": None}})
        "says of the target 'score' a NoneType, expected an object"
    """
    while True:
        if not isinstance(recipe, dict):
            return f"holds a {type(recipe).__name__}, expected an object"
        if fault := _fault_of_targets(recipe.get("targets", {})):
            return fault
        if recipe.get("kind") != "sample":
            break
        recipe = recipe.get("of")
    if recipe.get("kind") != "merged":
        return ""
    parts = recipe.get("of")
    sound = isinstance(parts, list) and parts and all(map(_is_part, parts))
    return "" if sound else "names no zoos that were merged, expected the name and recipe of each"


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("recipe"), dict) and "name" in part


def _fault_of_targets(targets: Any) -> str:
    if not isinstance(targets, dict):
        return f"holds a {type(targets).__name__} of targets, expected an object"
    for name, target in targets.items():
        if not isinstance(target, dict):
            found = type(target).__name__
            return f"says of the target {name!r} a {found}, expected an object"
        if not isinstance(target.get("classes", []), list):
            return f"says of the target {name!r} classes that are no list"
        if not isinstance(target.get("base_value"), int | float | None):
            return f"says of the target {name!r} a base_value that is no number"
    return ""


def fault_of_splits(splits: Mapping[str, Any]) -> str:
    """Why the rule of a split cannot be used, empty where it can."""
    fractions = splits.get("fractions")
    if isinstance(fractions, list) and len(fractions) == 3:
        shares = all(isinstance(x, int | float) and 0 <= x <= 1 for x in fractions)
        if shares and abs(sum(fractions) - 1) <= 1e-9:
            return ""
    return f"holds the fractions {fractions!r:.80}, not 3 of sum 1"


def fault_of_index(index: pa.Table, targets: Mapping[str, Mapping[str, Any]], label: str) -> str:
    """Why an index cannot be used, empty where it can.

    Args:
        targets: those of a sound recipe.
        label: what the names of columns of labels begin with.
    """
    if not index.num_rows:
        return "has no rows, expected one a LoRA"
    there = index.column_names
    missing = [name for name in (*PLACES, *TEXTS) if there.count(name) != 1]
    if missing:
        return f"has no column {', '.join(missing)}, or has it twice"
    for name in PLACES:
        column = index.column(name)
        if not pa.types.is_integer(column.type) or column.null_count:
            return f"holds in the column {name} a {column.type} or nothing, expected whole numbers"
        if name != "id" and pc.min(column).as_py() < 0:
            return f"holds numbers below 0 in the column {name}"
    provenance = index.column("provenance")
    if not pa.types.is_string(provenance.type) or provenance.null_count:
        return "holds no text in the column provenance"
    faults = (
        _fault_of_labels(index.column(label + name).type, name, target.get("kind"))
        for name, target in targets.items()
        if there.count(label + name) == 1
    )
    return next(filter(None, faults), "")


def _fault_of_labels(found: pa.DataType, name: str, kind: Any) -> str:
    """Of one target; values are looked at where they are used."""
    if pa.types.is_null(found):
        return ""
    if kind == "regression" and (pa.types.is_nested(found) or pa.types.is_string(found)):
        return f"holds labels of {name!r} as {found}, expected numbers"
    if kind == "multilabel" and not pa.types.is_list(found):
        return f"holds labels of {name!r} as {found}, expected lists"
    return ""
