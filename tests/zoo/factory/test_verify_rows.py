"""The checks of the index alone; on whole zoos in test_verify.py."""

import pyarrow as pa
import pytest

from lorascope.zoo.factory.verify_rows import check_groups, check_labels

KINDS = {
    "regression": {"kind": "regression"},
    "multilabel": {"kind": "multilabel", "classes": ["a", "b"]},
    "multiclass": {"kind": "multiclass", "classes": ["a", "b"]},
}


@pytest.mark.parametrize(
    ("kind", "value", "sound"),
    [
        ("regression", 1.5, True),
        ("regression", float("inf"), False),
        ("regression", "high", False),
        ("multilabel", [True, False], True),
        ("multilabel", [True, None], False),
        ("multiclass", "b", True),
        ("multiclass", 1, True),
        ("multiclass", 2, False),
    ],
)
def test_values_of_each_kind(kind, value, sound):
    table = pa.table({"id": [4], "label:x": [value]})
    findings = list(check_labels(table, {"x": KINDS[kind]}, built=True))
    assert [finding.place for finding in findings] == ([] if sound else ["index.parquet, id 4"])


def test_an_index_without_groups_is_left_to_the_check_of_columns():
    assert list(check_groups(pa.table({"id": [1]}))) == []
