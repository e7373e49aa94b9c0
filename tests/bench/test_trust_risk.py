import numpy as np
import pytest
import torch

from lorascope.bench.trust_risk import BY_SCORE, VALUES, Part, answers_of, risks
from lorascope.predict import Target
from lorascope.train import fit_many
from tests.planted import planted


@pytest.fixture(scope="module")
def data():
    return planted(240)


@pytest.fixture(scope="module")
def predictors(data):
    return fit_many(data, model="ridge", trust=True)


def far(data):
    """The same LoRAs ten thousand times too large, whose labels nobody can predict."""
    batch = data.batch
    large = [type(group)(group.u * 1e4, group.v) for group in batch.groups]
    return type(data)(batch.with_groups(large), data.targets, data.labels, data.groups)


def row(found, target, doubt=BY_SCORE):
    return next(x for x in found["rows"] if (x["target"], x["doubt"]) == (target, doubt))


def test_answers_are_those_of_each_predictor_alone(data, predictors):
    found = answers_of(predictors, data.batch)
    for name, predictor in predictors.items():
        torch.testing.assert_close(found[name], predictor.outputs(data.batch), rtol=1e-4, atol=1e-5)


def test_abstention_takes_away_those_that_are_far_off(data, predictors):
    parts = {"test": Part(data, {}), "far": Part(far(data), {})}
    found = risks(predictors, parts, {"score": 1.0})
    assert found["parts"] == {"test": 240, "far": 240}
    score = row(found, "score")
    assert score["count"] == 480
    assert score["at limit"] < score["at 1"] / 2
    assert 0.4 < score["answered"] <= 0.5
    assert row(found, VALUES)["at 0.5"] == score["at 0.5"]
    assert found["curve"]["random"] == pytest.approx(score["at 1"])


def test_losses_are_deviations_and_shares_of_wrong_labels(data, predictors):
    parts = {"test": Part(data, {})}
    once, twice = (risks(predictors, parts, {"score": x}) for x in (1.0, 2.0))
    assert row(once, "score")["at 1"] == pytest.approx(2 * row(twice, "score")["at 1"], abs=1e-5)
    found = predictors["kind"].outputs(data.batch).argmax(1)
    wrong = float((found != data.labels["kind"].argmax(1)).mean())
    assert row(once, "kind")["at 1"] == pytest.approx(wrong, abs=1e-6)
    outputs = predictors["sources"].outputs(data.batch) > 0.5
    wrong = float((outputs != (data.labels["sources"] > 0.5)).mean())
    assert row(once, "sources", "mean of min(p, 1 - p)")["at 1"] == pytest.approx(wrong, abs=1e-6)
    assert "answered" not in row(once, "kind", "1 - highest p")


def test_values_of_another_base_are_moved_and_missing_labels_left_out(data, predictors):
    moved = {"score": data.labels["score"] - 5.0}
    gone = np.full_like(moved["score"], np.nan)
    gone[:7] = moved["score"][:7]
    there = type(data)(data.batch, data.targets, data.labels | moved)
    some = type(data)(data.batch, data.targets, data.labels | {"score": gone})
    plain, back, off, few = (
        row(risks(predictors, {"test": part}, {"score": 1.0}), "score")
        for part in (Part(data, {}), Part(there, {"score": 5.0}), Part(there, {}), Part(some, {}))
    )
    assert back["at 1"] == pytest.approx(plain["at 1"], abs=1e-5)
    assert off["at 1"] > plain["at 1"] + 3
    assert few["count"] == 7


def test_a_part_without_a_target_has_no_label_of_it(data):
    part = Part(data, {})
    assert np.isnan(part.truth(Target("beauty", "regression"))).all()
