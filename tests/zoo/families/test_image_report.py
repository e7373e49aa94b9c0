"""The report on a zoo whose labels are made up, so that the right numbers are known."""

import numpy as np
import pyarrow as pa
import pytest

from lorascope.zoo.families.image_report import image_report

TARGETS = {
    "attributes": {"kind": "multilabel", "classes": ["a", "b"], "metric": "accuracy"},
    "clip_score": {"kind": "regression", "metric": "r2", "base_value": 2.0},
}


@pytest.fixture(scope="module")
def report():
    random = np.random.default_rng(0)
    count = 400
    rate, has = random.uniform(1e-3, 4e-3, count), random.random((count, 2)) < (0.5, 0.25)
    truth = 2 + np.log(rate) + 1.5 * has[:, 0]
    noise = 0.3 * random.standard_normal((2, count))
    again = truth + noise[1]
    again[100:] = np.nan
    first = truth + noise[0]
    first[:3] = np.nan
    table = pa.table(
        {
            "hyper:learning_rate": rate,
            "hyper:prompt": random.integers(0, 4, count).astype(float),
            "label:attributes": has.tolist(),
            "label:clip_score": first,
            "label:clip_score_again": again,
        }
    )
    return image_report(table, TARGETS), truth


def test_diverged_loras_are_left_out(report):
    assert (report[0]["loras"], report[0]["diverged"]) == (400, 3)


def test_diverged_loras_are_counted_where_nothing_is_sampled():
    targets = {"attributes": TARGETS["attributes"]}
    flags = [True, False, False, False]
    table = pa.table(
        {"label:attributes": [[True, False]] + [[False, False]] * 3, "diverged": flags}
    )
    report = image_report(table, targets)
    assert (report["loras"], report["diverged"]) == (4, 1)
    assert report["balance"]["attributes"]["a"] == 0
    none = image_report(table.slice(0, 1), targets)
    assert (none["diverged"], none["balance"], none["scores"]) == (1, {}, {})


def test_hyper_parameters_explain_their_share_and_pictures_the_rest(report):
    score, truth = report[0]["scores"]["clip_score"], report[1]
    signal = truth.var() / (truth.var() + 0.09)
    assert 0.1 < score["hyper_r2"] < 0.5
    assert score["known_r2"] == pytest.approx(signal, abs=0.06)
    assert score["mean_difference"] == pytest.approx(truth.mean() - 2, abs=0.05)


def test_the_ceiling_is_the_reliability(report):
    ceiling, truth = report[0]["ceilings"]["clip_score"], report[1]
    assert ceiling["scored_twice"] == 97
    assert ceiling["r2"] == pytest.approx(truth.var() / (truth.var() + 0.09), abs=0.06)
    assert ceiling["noise_sd"] == pytest.approx(0.3, abs=0.06)


def test_the_balance_of_classes_is_told(report):
    balance = report[0]["balance"]["attributes"]
    assert balance["a"] == pytest.approx(0.5, abs=0.07)
    assert balance["majority"] == pytest.approx(0.63, abs=0.05)


def test_a_class_is_no_quantity_and_needs_no_metric():
    random, count = np.random.default_rng(1), 120
    breed = random.integers(0, 3, count)
    first = np.array([1.0, 9.0, 3.0])[breed] + 0.1 * random.standard_normal(count)
    sampled = {
        "hyper:learning_rate": random.uniform(1e-3, 4e-3, count),
        "label:clip_score": first,
        "label:clip_score_again": np.full(count, np.nan),
    }
    targets = {"breed": {"kind": "multiclass", "classes": ["tabby", "siamese", "manx"]}}
    for labels in (breed, np.array(targets["breed"]["classes"])[breed]):
        table = pa.table({**sampled, "label:breed": labels})
        report = image_report(table, {**targets, "clip_score": TARGETS["clip_score"]})
        assert report["ceilings"]["breed"] == {"accuracy": 1.0}
        assert report["scores"]["clip_score"]["known_r2"] > 0.95
    alone = image_report(pa.table(sampled), {"clip_score": TARGETS["clip_score"]})
    assert alone["scores"]["clip_score"]["known_r2"] < 0.1
