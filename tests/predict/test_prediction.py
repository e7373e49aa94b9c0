import json

from lorascope.predict.prediction import Prediction
from lorascope.predict.target import Target

SOURCES = Target("sources", "multilabel", ("a", "b"))
KIND = Target("kind", "multiclass", ("a", "b"))
SCORE = Target("score", "regression", unit="points")


def test_multilabel_predicts_the_classes_from_one_half_on():
    found = Prediction(SOURCES, probabilities={"a": 0.5, "b": 0.49})
    assert found.labels == ("a",)
    assert found.to_json()["probabilities"] == {"a": 0.5, "b": 0.49}


def test_multiclass_predicts_its_label():
    assert Prediction(KIND, probabilities={"a": 0.3, "b": 0.7}, label="b").labels == ("b",)
    assert Prediction(KIND).labels == ()


def test_json_of_a_regression_has_the_value_and_its_unit_and_can_be_written():
    found = Prediction(
        SCORE, value=3.5, coverage=0.5, held_out={"rmse": 0.1, "spearman": None}, warnings=("x",)
    )
    assert json.loads(json.dumps(found.to_json())) == {
        "target": "score",
        "kind": "regression",
        "value": 3.5,
        "unit": "points",
        "coverage": 0.5,
        "held_out": {"rmse": 0.1, "spearman": None},
        "warnings": ["x"],
    }
