"""Learning several targets at once: one network or one study, a predictor for each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.errors import DataError
from lorascope.predict import load_predictor
from lorascope.train.fit import default_split, fit, fit_many
from lorascope.train.learn import Lesson, group_numbers, rows_of
from tests.planted import planted

DATA = planted(120)
SPLIT = default_split(DATA, 0)


def with_gaps():
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["score"][::3] = np.nan
    labels["kind"][1::4] = np.nan
    return replace(DATA, labels=labels)


@pytest.mark.parametrize("model", ["kernel_cosine", "ridge"])
def test_closed_forms_answer_as_if_each_was_fitted_alone(model):
    many = fit_many(DATA, model=model)
    assert list(many) == list(DATA.targets)
    for name in ("score", "sources"):
        alone = fit(DATA, name, model=model)
        outputs = many[name].outputs(DATA.batch)
        np.testing.assert_allclose(outputs, alone.outputs(DATA.batch), rtol=1e-4, atol=1e-5)
        assert many[name].report["together"] == list(DATA.targets)
        assert "together" not in alone.report


@pytest.mark.parametrize("model", ["kernel_product", "spectra_knn", "svd"])
def test_missing_labels_are_left_out_of_their_own_target_only(model):
    changes = {} if model != "svd" else {"epochs": 2}
    many = fit_many(with_gaps(), model=model, **changes)
    for name, predictor in many.items():
        rows = predictor.report["rows"]
        assert rows["without_label"] == {"score": 40, "kind": 30, "sources": 0}[name]
        assert sum(rows.values()) == len(DATA)
        assert np.isfinite(predictor.outputs(DATA.batch)).all()


def test_a_network_learns_all_targets_in_one_training():
    many = fit_many(DATA, model="svd", epochs=30, seed=1)
    assert many["score"].held_out["r2"] > 0.6
    assert many["sources"].held_out["accuracy"] > 0.7
    widths = {name: predictor.model.out_features for name, predictor in many.items()}
    assert widths == {"sources": 3, "score": 1, "kind": 3}
    best = {predictor.report["best_epoch"] for predictor in many.values()}
    assert len(best) > 1  # each kept its own


def test_each_predictor_is_saved_and_loaded_on_its_own(tmp_path):
    many = fit_many(DATA, ["score", "kind"], model="deep_sets", epochs=1, hidden=8, head=8)
    for name, predictor in many.items():
        again = load_predictor(predictor.save(tmp_path / name))
        np.testing.assert_array_equal(again.outputs(DATA.batch), predictor.outputs(DATA.batch))


def test_a_killed_training_of_many_goes_on(tmp_path):
    whole = fit_many(DATA, model="svd", epochs=3)
    for _ in range(2):  # the second finds the first one finished
        kept = fit_many(DATA, model="svd", epochs=3, checkpoint_dir=tmp_path)
    for name, predictor in whole.items():
        assert kept[name].held_out == predictor.held_out
    with pytest.raises(DataError, match="another run"):
        fit_many(DATA, ["score", "kind"], model="svd", epochs=3, checkpoint_dir=tmp_path)


def test_no_target_and_an_unknown_one_are_refused():
    with pytest.raises(DataError, match="found no target"):
        fit_many(DATA, [])
    with pytest.raises(DataError, match="expected one of kind, score, sources"):
        fit_many(DATA, ["score", "clip_score"])


def test_a_lesson_holds_scaled_labels_of_the_rows_that_have_one():
    data = with_gaps()
    lesson = Lesson.of(data, "score", SPLIT)
    assert not np.isnan(lesson.y[lesson.split.train]).any()
    assert abs(lesson.y[lesson.split.train].mean()) < 1e-9
    assert np.isnan(lesson.y[::3]).all()
    sources = Lesson.of(data, "sources", SPLIT)
    assert np.array_equal(rows_of([lesson, sources], "train"), SPLIT.train)


def test_groups_are_numbered_where_the_model_is():
    assert group_numbers(DATA, SPLIT.train, "meta").device.type == "meta"
    found = group_numbers(DATA, np.arange(6), "cpu")
    assert torch.equal(found, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert group_numbers(replace(DATA, groups=None), SPLIT.train, "cpu") is None
