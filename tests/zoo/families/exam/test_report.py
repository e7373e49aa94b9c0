"""The report, on made-up tables of which the answers are known."""

import numpy as np
import pyarrow as pa
import pytest

from lorascope.zoo.families.exam.report import by_source, diverged, exam_report

TARGETS = {
    "sources": {"kind": "multilabel", "classes": ["a", "b", "c"]},
    "accuracy": {"kind": "regression", "base_value": 0.25},
    "eval_loss": {"kind": "regression", "base_value": 1.4},
    "dataset_size": {"kind": "regression"},
}


def made_up(count=160, *, by_hyper=0.0, noise=0.01, seed=0):
    """Accuracy = .25 + .1 for each source + by_hyper * standardised log rate + noise of each half."""
    rng = np.random.default_rng(seed)
    member = rng.random((count, 3)) < 0.5
    z = rng.standard_normal(count)
    common = 0.25 + 0.1 * member.sum(1) + by_hyper * z
    even, odd = (common + noise * rng.standard_normal(count) for _ in range(2))
    return pa.table(
        {
            "id": np.arange(count),
            "diverged": np.zeros(count, dtype=bool),
            "hyper:learning_rate": np.exp(z - 6),
            "hyper:epochs": rng.integers(1, 4, count).astype(float),
            "label:sources": member.tolist(),
            "label:accuracy": (even + odd) / 2,
            "label:accuracy_even": even,
            "label:accuracy_odd": odd,
            "label:accuracy_by_source": np.c_[np.ones(count), member * 0.5 + 0.25].tolist(),
            "label:eval_loss": 1.5 - 0.2 * member.sum(1),
            "label:eval_loss_again": 1.4 - 0.2 * member.sum(1),
            "label:dataset_size": 10.0 * (1 + member.sum(1)),
        }
    )


def test_sources_explain_what_hyper_parameters_do_not():
    report = exam_report(made_up(), TARGETS)
    accuracy = report["scores"]["accuracy"]
    assert accuracy["hyper_r2"] < 0.1
    assert accuracy["known_r2"] > 0.95
    assert accuracy["base_value"] == 0.25
    assert accuracy["mean_difference"] == pytest.approx(accuracy["mean"] - 0.25, abs=1e-4)
    assert report["scores"]["dataset_size"]["known_r2"] > 0.99
    assert report["halves"]["correlation"] > 0.97
    assert report["halves"]["correlation_without_hyper"] > 0.97
    assert report["ceilings"]["accuracy"]["r2"] > report["halves"]["correlation"]
    assert report["ceilings"]["eval_loss"]["r2"] == pytest.approx(1)
    assert set(report["ceilings"]) == set(TARGETS)
    assert report["hyper_at_most_half"] is True


def test_hyper_parameters_that_explain_all_leave_halves_uncorrelated():
    table = made_up(by_hyper=0.3, noise=0.03)
    table = table.set_column(
        table.column_names.index("label:sources"),
        "label:sources",
        pa.array([[True, False, True]] * len(table)),
    )
    rng = np.random.default_rng(1)
    z = np.log(table["hyper:learning_rate"].to_numpy()) + 6
    for half in ("even", "odd"):
        name = f"label:accuracy_{half}"
        values = pa.array(0.4 + 0.1 * np.tanh(z) + 0.02 * rng.standard_normal(len(table)))
        table = table.set_column(table.column_names.index(name), name, values)
    halves = exam_report(table, TARGETS)["halves"]
    assert halves["correlation"] > 0.8
    assert abs(halves["correlation_without_hyper"]) < 0.3


def test_trained_and_dropped_sources_are_told_apart():
    facts = by_source(made_up(), TARGETS)
    assert facts["trained"] == 0.75
    assert facts["dropped"] == 0.25
    assert facts["b"] == {"trained": 0.75, "dropped": 0.25}


def test_diverged_loras_are_counted_and_left_out():
    table = made_up(40)
    loss = table["label:eval_loss"].to_numpy().copy()
    loss[3], loss[5], loss[7] = 4.0, np.nan, 3.3  # above 1.4 + 2; not finite; below
    table = table.set_column(table.column_names.index("label:eval_loss"), "label:eval_loss", [loss])
    flags = np.zeros(40, dtype=bool)
    flags[9] = True
    table = table.set_column(table.column_names.index("diverged"), "diverged", [flags])
    assert np.flatnonzero(diverged(table, 1.4)).tolist() == [3, 5, 9]
    report = exam_report(table, TARGETS)
    assert report["loras"] == 40
    assert report["diverged"] == 3
    assert report["scores"]["eval_loss"]["max"] == pytest.approx(3.3)


def test_a_tiny_zoo_has_a_short_report():
    report = exam_report(made_up(4), TARGETS)
    assert report["loras"] == 4
    assert report["scores"] == {}


def test_a_zoo_whose_training_all_diverged_has_a_report():
    table = made_up(4)
    place = table.column_names.index("diverged")
    report = exam_report(table.set_column(place, "diverged", [[True] * 4]), TARGETS)
    assert (report["loras"], report["diverged"]) == (4, 4)
    assert (report["scores"], report["by_source"]) == ({}, {})
