from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.core.batch import collate
from lorascope.core.lora import LoRA
from lorascope.errors import DataError
from lorascope.train.controls import CONTROLS, control_predictions, layer_norms
from lorascope.train.metrics import scores
from lorascope.train.splits import group_split
from tests.planted import planted, planted_loras

DATA = planted()
SPLIT = group_split(DATA.groups, seed=0)


def score(control, target):
    predicted = control_predictions(control, DATA, target, SPLIT)
    truth = DATA.labels[target][SPLIT.test]
    return scores(DATA.target(target), truth, predicted)


@pytest.mark.parametrize("target", ["sources", "kind", "score"])
def test_the_majority_predicts_the_training_frequencies_for_all(target):
    predicted = control_predictions("majority", DATA, target, SPLIT)
    expected = DATA.labels[target][SPLIT.train].mean(0)
    np.testing.assert_allclose(predicted, np.tile(expected, (len(SPLIT.test), 1)))


@pytest.mark.parametrize("target", ["sources", "kind", "score"])
def test_ranks_that_never_vary_leave_the_majority(target):
    np.testing.assert_array_equal(
        control_predictions("rank only", DATA, target, SPLIT),
        control_predictions("majority", DATA, target, SPLIT),
    )


def test_hyper_parameters_find_the_score_that_depends_on_them():
    assert score("hyper-parameters", "score")["r2"] > 0.6
    assert score("majority", "score")["r2"] < 0.05


def test_missing_hyper_parameters_are_filled_from_the_training_rows_alone():
    name = min(DATA.hyper)
    values = DATA.hyper[name].copy()
    values[SPLIT.train[0]], values[SPLIT.train[1]] = np.nan, np.inf
    first = CONTROLS["hyper-parameters"](replace(DATA, hyper={name: values}), SPLIT)
    middle = np.median(values[SPLIT.train[2:]])
    assert first[SPLIT.train[:2], 0].tolist() == [middle, middle]
    values[SPLIT.test] += 1e6
    second = CONTROLS["hyper-parameters"](replace(DATA, hyper={name: values}), SPLIT)
    np.testing.assert_array_equal(second[SPLIT.train], first[SPLIT.train])


def test_a_norm_that_is_not_finite_is_named_and_does_not_drop_its_layer():
    batch = DATA.batch.with_groups(
        [replace(group, u=group.u.clone()) for group in DATA.batch.groups]
    )
    batch.groups[0].u[0, 7, 0, 0] = float("nan")
    with pytest.raises(DataError, match="row 7 is not finite"):
        control_predictions("per-layer norms", replace(DATA, batch=batch), "score", SPLIT)


def test_norms_find_what_size_tells():
    assert score("norm only", "score")["r2"] > 0.3
    layers, majority = score("per-layer norms", "sources"), score("majority", "sources")
    assert layers["accuracy"] > majority["accuracy"] + 0.1
    assert layers["accuracy"] > score("norm only", "sources")["accuracy"] + 0.02
    layers, majority = score("per-layer norms", "kind"), score("majority", "kind")
    assert layers["log_loss"] < majority["log_loss"] - 0.1


def test_one_norm_is_one_number_and_the_others_one_a_layer():
    whole, layers = (CONTROLS[name](DATA, SPLIT) for name in ("norm only", "per-layer norms"))
    assert whole.shape == (len(DATA), 1)
    assert layers.shape == (len(DATA), 4)
    np.testing.assert_array_equal(layers[:, :1], whole)


def test_ranks_are_read_where_they_vary():
    loras, table = planted_loras(120)
    cut = [
        lora.truncate(1 + (size > 0)).lora for lora, size in zip(loras, table[:, 3], strict=True)
    ]
    from lorascope.train.data import label_loras

    data = label_loras(
        cut, {"score": table[:, 3]}, [DATA.target("score")], groups=[str(i) for i in range(120)]
    )
    split = group_split(data.groups, seed=0)
    predicted = control_predictions("rank only", data, "score", split)
    truth = data.labels["score"][split.test]
    assert scores(data.target("score"), truth, predicted)["r2"] > 0.4


def test_probabilities_are_probabilities():
    for control in CONTROLS:
        many = control_predictions(control, DATA, "sources", SPLIT)
        one = control_predictions(control, DATA, "kind", SPLIT)
        assert ((many >= 0) & (many <= 1)).all()
        np.testing.assert_allclose(one.sum(1), 1)


def test_a_class_that_never_occurs_in_training_is_survived():
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["sources"][SPLIT.train, 0] = 0
    labels["kind"][SPLIT.train] = [1, 0, 0]
    data = type(DATA)(DATA.batch, DATA.targets, labels, DATA.groups, DATA.hyper)
    for target in ("sources", "kind"):
        found = control_predictions("norm only", data, target, SPLIT)
        assert np.isfinite(found).all()


def test_missing_hyper_parameters_are_filled_and_none_at_all_is_an_error():
    hyper = {name: values.astype(float).copy() for name, values in DATA.hyper.items()}
    hyper["rate"][::7] = np.nan
    data = type(DATA)(DATA.batch, DATA.targets, DATA.labels, DATA.groups, hyper)
    assert np.isfinite(control_predictions("hyper-parameters", data, "score", SPLIT)).all()
    bare = type(DATA)(DATA.batch, DATA.targets, DATA.labels, DATA.groups)
    with pytest.raises(DataError, match="stores none"):
        control_predictions("hyper-parameters", bare, "score", SPLIT)


def test_another_name_is_refused():
    with pytest.raises(DataError, match="expected one of majority, norm only"):
        control_predictions("oracle", DATA, "score", SPLIT)


def test_layer_norms_are_the_norms_of_the_dense_updates():
    loras, _ = planted_loras(3)
    partial = [*loras, loras[0].select(["block.0.v"])]
    expected = [
        [
            torch.linalg.norm(lora[name].dense()).item() if name in lora.layers else 0.0
            for name in loras[0].layers
        ]
        for lora in partial
    ]
    batch = collate(partial, loras[0].signature(), allow_missing=True)
    np.testing.assert_allclose(layer_norms(batch), expected, rtol=1e-5)
    assert isinstance(partial[-1], LoRA)
