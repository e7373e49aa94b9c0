from dataclasses import replace

import numpy as np
import pytest

from lorascope.bench.answers import (
    Assignment,
    boosted,
    control,
    model,
    read_alike,
    shared_outputs,
    state_bytes,
)
from lorascope.models.build import MODELS
from lorascope.train.controls import control_predictions
from lorascope.train.fit import default_split, fit_many
from tests.planted import planted

DATA = planted(60)
SPLIT = default_split(DATA, 0)


def given(**changes):
    sets = {"test": DATA.select(SPLIT.test), "validation": DATA.select(SPLIT.validation)}
    fields = {"targets": tuple(DATA.targets), "options": {}, "sets": sets} | changes
    return Assignment(DATA, split=SPLIT, seed=0, **fields)


@pytest.mark.parametrize("name", list(MODELS))
def test_reading_once_for_all_targets_gives_what_each_predictor_says(name):
    epochs = {"epochs": 1} if name not in ("fusion",) else {}
    predictors = fit_many(DATA, model=name, seed=0, split=SPLIT, **epochs)
    batch = DATA.batch.select(slice(0, 7))
    for target, found in shared_outputs(predictors, batch).items():
        np.testing.assert_allclose(found, predictors[target].outputs(batch), atol=1e-6)


def test_targets_of_one_bandwidth_are_read_together():
    alike = fit_many(DATA, model="kernel_cosine", seed=0, split=SPLIT)
    assert read_alike(alike, DATA.batch.select(slice(0, 2))) == [list(DATA.targets)]
    apart = fit_many(DATA, model="kernel_spectra", seed=0, split=SPLIT)
    widths = {float(p.model.get_buffer("bandwidth")) for p in apart.values()}
    assert len(read_alike(apart, DATA.batch.select(slice(0, 2)))) == len(widths) > 1


def test_labels_that_are_missing_leave_other_loras_to_compare_with():
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["score"][SPLIT.train[::3]] = np.nan
    data = replace(DATA, labels=labels)
    batch = DATA.batch.select(slice(0, 5))
    for name in ("kernel_cosine", "fusion", "ridge", "spectra_knn"):
        predictors = fit_many(data, model=name, seed=0, split=SPLIT)
        for target, found in shared_outputs(predictors, batch).items():
            np.testing.assert_allclose(found, predictors[target].outputs(batch), atol=1e-6)


def test_a_model_answers_with_settings_and_options():
    few = given(options={"epochs": 1, "hidden": 8})
    answers = model("mlp")(few)
    assert set(answers.predictions["test"]) == set(DATA.targets)
    assert answers.predictions["test"]["sources"].shape == (len(SPLIT.test), 3)
    assert answers.parameters < model("mlp")(given(options={"epochs": 1})).parameters
    assert answers.seconds > 0


def test_a_set_that_cannot_be_read_is_named_and_the_others_are_answered():
    wide = planted(4, seed=5)
    higher = type(wide)(wide.batch.pad(7), wide.targets, wide.labels)
    ranks = higher.batch.ranks + 4
    object.__setattr__(higher.batch, "ranks", ranks)
    sets = {"high": higher, "test": DATA.select(SPLIT.test)}
    answers = model("mlp")(given(options={"epochs": 1}, sets=sets))
    assert "RankError" in answers.errors["high"]
    assert set(answers.predictions) == {"test"}


@pytest.mark.parametrize("name", ["majority", "norm only", "per-layer norms", "hyper-parameters"])
def test_a_control_says_of_a_set_what_it_says_of_its_rows(name):
    answers = control(name)(given())
    for target in DATA.targets:
        expected = control_predictions(name, DATA, target, SPLIT)
        np.testing.assert_allclose(answers.predictions["test"][target], expected, atol=1e-9)
        assert answers.predictions["validation"][target].shape[0] == len(SPLIT.validation)


def test_a_control_that_lacks_its_numbers_says_so():
    bare = DATA.select(SPLIT.test)
    object.__setattr__(bare, "hyper", {})
    answers = control("hyper-parameters")(given(sets={"bare": bare}))
    assert "hyper-parameters" in answers.errors["bare"]
    assert answers.predictions == {}


def test_closed_forms_have_no_weights_and_store_much(tmp_path):
    answers = model("kernel_product")(given())
    predictors = fit_many(DATA, model="kernel_product", seed=0, split=SPLIT)
    assert answers.parameters == 0
    assert answers.stored == max(state_bytes(p.model) for p in predictors.values())
    folder = predictors["score"].save(tmp_path / "predictor")
    written = (folder / "model.safetensors").stat().st_size
    stored = state_bytes(predictors["score"].model)
    assert stored <= written < stored + 10_000  # names and shapes


def test_trees_answer_too():
    answers = boosted(given(targets=("score",)))
    assert answers.stored == 0
    assert answers.predictions["test"]["score"].shape == (len(SPLIT.test), 1)
