"""Recipes and indexes that anyone may have written: each way to be wrong is said in words."""

import pyarrow as pa
import pytest

from lorascope.io.zoo_parts import fault_of_index, fault_of_recipe, fault_of_splits

SOUND = {"targets": {"score": {"kind": "regression", "base_value": 0.5}, "tags": {"classes": []}}}


@pytest.mark.parametrize(
    "recipe",
    [
        SOUND,
        {},
        {"kind": "sample", "of": SOUND},
        {"kind": "merged", "of": [{"name": "a", "recipe": SOUND}]},
    ],
)
def test_sound_recipes(recipe):
    assert fault_of_recipe(recipe) == ""


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ([1], "holds a list, expected an object"),
        ({"targets": [1]}, "a list of targets"),
        ({"targets": {"score": None}}, "'score' a NoneType"),
        ({"targets": {"tags": {"classes": 5}}}, "classes that are no list"),
        ({"targets": {"score": {"base_value": "x"}}}, "base_value that is no number"),
        ({"kind": "sample"}, "holds a NoneType"),
        ({"kind": "sample", "of": {"targets": 1}}, "holds a int of targets"),
        ({"kind": "merged"}, "no zoos that were merged"),
        ({"kind": "merged", "of": [{}]}, "no zoos that were merged"),
    ],
)
def test_recipes_that_cannot_be_used(recipe, said):
    assert said in fault_of_recipe(recipe)


@pytest.mark.parametrize(
    "fractions", [None, "a", ["a", 1, 0], [0.5, 0.5], [-1, 1, 1], {"a": 1}, [None, 1, 0]]
)
def test_fractions_that_are_none(fractions):
    assert "not 3 of sum 1" in fault_of_splits({"fractions": fractions})
    assert fault_of_splits({"fractions": [0.7, 0.1, 0.2]}) == ""


def index(**columns):
    plain = {"id": [0, 1], "shard": [0, 0], "row": [0, 1], "rank": [2, 2]}
    texts = {name: ["x", "x"] for name in ("group", "sha256", "provenance")}
    labels = {"label:score": [0.5, None], "label:tags": [[True], None]}
    made = {**plain, **texts, **labels, **columns}
    return pa.table({name: values for name, values in made.items() if values is not None})


TARGETS = {"score": {"kind": "regression"}, "tags": {"kind": "multilabel"}}


def test_a_sound_index():
    assert fault_of_index(index(), TARGETS, "label:") == ""
    assert fault_of_index(index(**{"label:score": [None, None]}), TARGETS, "label:") == ""


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"shard": None}, "no column shard"),
        ({"shard": ["../../x", "y"]}, "expected whole numbers"),
        ({"id": [0, None]}, "expected whole numbers"),
        ({"row": [-1, 0]}, "below 0"),
        ({"provenance": [1, 2]}, "no text"),
        ({"label:score": ["x", "y"]}, "labels of 'score' as string"),
        ({"label:tags": [1.0, 2.0]}, "labels of 'tags' as double"),
    ],
)
def test_indexes_that_cannot_be_used(columns, said):
    assert said in fault_of_index(index(**columns), TARGETS, "label:")
    assert "no rows" in fault_of_index(index().slice(0, 0), TARGETS, "label:")
