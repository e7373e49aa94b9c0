import numpy as np
import pyarrow as pa
import pytest

from lorascope.zoo.families.label_statistics import (
    at_most_half,
    column,
    correlation,
    distribution,
    explained,
    hyper_of,
    reliability,
    sources_of,
)


def test_rates_are_taken_as_logarithms():
    table = pa.table({"hyper:learning_rate": [0.01, 1.0], "hyper:epochs": [2.0, 3.0]})
    assert hyper_of(table).tolist() == [[np.log(0.01), 2.0], [0.0, 3.0]]


def test_sources_come_with_their_number():
    table = pa.table({"label:sources": [[True, False, True], [False, False, True]]})
    assert column(table, "label:sources").shape == (2, 3)
    assert sources_of(table).tolist() == [[1, 0, 1, 2], [0, 0, 1, 1]]


def test_a_score_is_told_beside_the_base():
    facts = distribution(np.array([1.0, 2.0, 3.0]), 1.5)
    assert (facts["mean"], facts["median"], facts["mean_difference"]) == (2.0, 2.0, 0.5)
    assert "base_value" not in distribution(np.array([1.0]), None)


def test_a_whole_test_is_more_reliable_than_its_halves():
    assert reliability(0.8) == pytest.approx(0.8889)
    assert reliability(-0.3) == 0.0
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0


def test_hyper_parameters_may_explain_half():
    assert at_most_half({"a": {"hyper_r2": 0.5}, "b": {"hyper_r2": 0.1}})
    assert not at_most_half({"a": {"hyper_r2": 0.51}})


@pytest.mark.parametrize("shape", ["step", "smooth"])
def test_explained_finds_steps_and_smooth_trends(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    y = (
        np.where((x[:, 0] > 0.5) & (x[:, 1] > 0), 1.0, 0.0)
        if shape == "step"
        else x[:, 0] * x[:, 1]
    )
    score, predicted = explained(x, y)
    assert score > 0.8
    assert np.corrcoef(predicted, y)[0, 1] > 0.9
    assert explained(x, rng.standard_normal(300))[0] < 0.1
