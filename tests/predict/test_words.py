"""Predictions in words: values with units and intervals, classes by their probability, one line each."""

import math

from lorascope.io.results import without_nan
from lorascope.predict import Prediction, Target
from lorascope.predict.words import in_words, number

SCORE = Target("s", "regression", unit="dB")


def document(prediction):
    """As it comes from a results file."""
    return without_nan(prediction.to_json())


def test_answers_in_words():
    many = Target("t", "multilabel", tuple(f"c{i}" for i in range(40)))
    chances = {name: 0.5 + i / 100 for i, name in enumerate(many.classes)}
    words = in_words(document(Prediction(many, probabilities=chances)))
    assert words.startswith("c39 0.89, c38 0.88")
    assert words.endswith("and 16 more")
    none = Prediction(many, probabilities=dict.fromkeys(many.classes, 0.1))
    assert in_words(document(none)) == "none"
    assert in_words(document(Prediction(SCORE, value=1.23456))) == "1.235 dB"


def test_intervals_in_words():
    sure = Prediction(SCORE, value=1.0, interval=(0.5, 1.5), level=0.9)
    assert in_words(document(sure)) == "1 dB, 0.5 to 1.5 (90 %)"
    unsure = Prediction(SCORE, value=1.0, interval=(-math.inf, math.inf), level=0.9)
    assert in_words(document(unsure)) == "1 dB, -inf to inf (90 %)"


def test_a_prediction_prints_as_one_line():
    sure = Prediction(SCORE, value=1.0, interval=(0.5, 1.5), level=0.9)
    assert str(sure) == "s: 1 dB, 0.5 to 1.5 (90 %)"
    odd = Prediction(SCORE, value=1.0, outlier=3.0, reason="unusual size")
    assert str(odd) == "s: 1 dB; abstains: unusual size"
    assert (number(None, ".2f"), number(0.123, ".2f")) == ("nan", "0.12")
