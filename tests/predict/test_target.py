import numpy as np
import pytest

from lorascope.errors import DataError
from lorascope.predict.target import Target, encode_labels

SOURCES = Target("sources", "multilabel", ("a", "b"))
KIND = Target("kind", "multiclass", ("a", "b", "c"))
SCORE = Target("score", "regression", unit="points")


def test_the_default_metric_and_the_number_of_outputs_follow_the_kind():
    assert (SOURCES.metric, SOURCES.out_features) == ("accuracy", 2)
    assert (SCORE.metric, SCORE.out_features) == ("r2", 1)
    assert Target("loss", "regression", metric="spearman").metric == "spearman"


@pytest.mark.parametrize("target", [SOURCES, KIND, SCORE])
def test_json_round_trip(target):
    assert Target.from_json(target.to_json()) == target


def test_json_without_a_name_takes_the_key_it_stands_under_and_ignores_other_facts():
    found = Target.from_json({"kind": "regression", "base_value": 0.3}, "accuracy")
    assert found == Target("accuracy", "regression")


@pytest.mark.parametrize(
    ("kind", "classes", "words"),
    [
        ("ranking", (), "expected one of regression"),
        ("regression", ("a",), "expected none"),
        ("multilabel", (), "at least 1"),
        ("multiclass", ("a",), "at least 2"),
        ("multiclass", ("a", "a"), "named twice"),
    ],
)
def test_targets_that_make_no_sense_are_refused(kind, classes, words):
    with pytest.raises(DataError, match=words):
        Target("x", kind, classes)


def test_json_without_a_kind_is_refused():
    with pytest.raises(DataError, match="'name' and 'kind'"):
        Target.from_json({"classes": []}, "x")


def test_regression_labels_keep_their_values_and_missing_ones_are_nan():
    found = encode_labels(SCORE, [1, None, float("nan"), 2.5])
    np.testing.assert_array_equal(found, [[1.0], [np.nan], [np.nan], [2.5]])


def test_multilabel_rows_with_one_missing_entry_are_missing_throughout():
    found = encode_labels(SOURCES, [[True, False], [1.0, np.nan], None])
    np.testing.assert_array_equal(found, [[1, 0], [np.nan, np.nan], [np.nan, np.nan]])


def test_classes_are_read_by_name_and_by_index():
    found = encode_labels(KIND, ["b", 2, None, np.int64(0), 1.0])
    np.testing.assert_array_equal(found, [[0, 1, 0], [0, 0, 1], [np.nan] * 3, [1, 0, 0], [0, 1, 0]])


def test_no_labels_at_all():
    assert encode_labels(SCORE, []).shape == (0, 1)
    assert encode_labels(KIND, []).shape == (0, 3)


@pytest.mark.parametrize(
    ("target", "labels", "words"),
    [
        (SCORE, ["high"], "number"),
        (SCORE, [float("inf")], "row 0 is infinite"),
        (SCORE, [[1.0, 2.0]], "2 numbers in a row, expected 1"),
        (SOURCES, [[0.3, 1.0]], "found the value 0.3"),
        (SOURCES, [[1.0]], "1 numbers in a row, expected 2"),
        (SOURCES, [[1.0, 0.0], [1.0]], "number"),
        (KIND, ["d"], "found 'd', expected one of a, b, c"),
        (KIND, [3], "index below 3"),
        (KIND, [0.5], "index below 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(target, labels, words):
    with pytest.raises(DataError, match=words):
        encode_labels(target, labels)
