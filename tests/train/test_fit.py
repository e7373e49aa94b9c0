import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.errors import DataError, TrainingError
from lorascope.predict import load_predictor
from lorascope.train.controls import control_predictions
from lorascope.train.fit import default_split, fit
from lorascope.train.learn import group_numbers
from lorascope.train.metrics import scores
from lorascope.train.settings import Settings
from lorascope.train.splits import row_split
from tests.planted import BASE, planted, planted_loras

DATA = planted()
SPLIT = default_split(DATA, 0)


def control(name, target):
    predicted = control_predictions(name, DATA, target, SPLIT)
    return scores(DATA.target(target), DATA.labels[target][SPLIT.test], predicted)


def test_regression_learns_what_is_planted_in_the_weights():
    found = fit(DATA, "score", model="svd", seed=0).held_out
    assert found["r2"] > control("per-layer norms", "score")["r2"] + 0.2
    assert found["rmse"] < control("majority", "score")["rmse"] / 2


def test_multilabel_learns_what_is_planted_in_the_weights():
    found = fit(DATA, "sources", model="dense", seed=0).held_out
    assert found["accuracy"] > 0.95 > control("per-layer norms", "sources")["accuracy"] + 0.05


def test_multiclass_learns_what_is_planted_in_the_weights():
    found = fit(DATA, "kind", model="dense", seed=0).held_out
    assert found["accuracy"] > control("per-layer norms", "kind")["accuracy"] + 0.1


def test_auto_is_the_default():
    predictor = fit(DATA, "score", seed=0)
    assert predictor.model.name == "fusion"
    assert predictor.held_out["r2"] > 0.9


def test_closed_form_models_are_solved_on_the_same_road():
    predictor = fit(DATA, "sources", model="kernel_product", seed=0)
    assert predictor.held_out["accuracy"] > 0.9
    assert predictor.report["parameters"] == 0
    assert fit(DATA, "score", model="kernel_product", seed=0).held_out["r2"] > 0.6


def test_the_report_says_what_was_done_and_can_be_written():
    predictor = fit(DATA, "score", model="svd", seed=3, epochs=2)
    report = json.loads(json.dumps(dict(predictor.report), allow_nan=False))
    assert sum(report["rows"].values()) == len(DATA)
    assert report["rows"]["without_label"] == 0
    assert report["settings"]["epochs"] == 2
    assert report["epochs"] == 2
    assert report["seed"] == 3
    assert report["parameters"] == sum(p.numel() for p in predictor.model.parameters())
    assert set(report["metrics"]) == {"validation", "test"}
    assert report["seconds"] > 0


def test_the_scores_in_the_report_are_those_of_its_predictions():
    predictor = fit(DATA, "score", model="svd", seed=0, epochs=3)
    outputs = predictor.outputs(DATA.select(SPLIT.test).batch)
    found = scores(DATA.target("score"), DATA.labels["score"][SPLIT.test], outputs)
    assert found == pytest.approx(predictor.held_out)


def test_a_saved_predictor_answers_for_loras_that_it_never_saw(tmp_path):
    fit(DATA, "score", model="svd", seed=0).save(tmp_path / "score")
    loras, table = planted_loras(60, seed=99)
    found = load_predictor(tmp_path / "score").predict(loras)
    truth = 10 + 3 * table[:, 3]
    assert np.corrcoef(truth, [p.value for p in found])[0, 1] > 0.8
    assert found[0].warnings == ()
    assert load_predictor(tmp_path / "score").signature.base == BASE


def test_the_seed_decides_everything():
    first, second = (fit(DATA, "score", model="mlp", seed=5, epochs=2) for _ in range(2))
    assert first.held_out == second.held_out
    assert first.held_out != fit(DATA, "score", model="mlp", seed=6, epochs=2).held_out


def test_rows_without_a_label_are_left_out_and_counted():
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["score"][::5] = np.nan
    predictor = fit(replace(DATA, labels=labels), "score", model="svd", epochs=2)
    rows = predictor.report["rows"]
    assert rows["without_label"] == 48
    assert rows["train"] + rows["validation"] + rows["test"] == len(DATA) - 48


def test_a_split_of_rows_is_only_ever_explicit():
    bare = replace(DATA, groups=None)
    with pytest.raises(DataError, match="row_split"):
        fit(bare, "score", model="svd")
    split = row_split(len(bare), seed=0)
    predictor = fit(bare, "score", model="svd", split=split, epochs=2)
    assert predictor.report["rows"]["train"] == len(split.train)
    fit(bare, "score", model="ridge", split=split)


def test_a_part_without_rows_is_refused():
    few = DATA.select(np.arange(2))
    with pytest.raises(DataError, match="part is empty"):
        fit(few, "score", model="svd")


def test_an_unknown_target_is_refused():
    with pytest.raises(DataError, match="expected one of kind, score, sources"):
        fit(DATA, "clip_score")


def test_settings_and_options_reach_the_training_and_the_model():
    settings = Settings(epochs=1, batch_size=50)
    predictor = fit(DATA, "score", model="svd", settings=settings, dtype="bfloat16", hidden=8)
    assert predictor.report["settings"]["batch_size"] == 50
    assert predictor.report["settings"]["dtype"] == "bfloat16"
    assert predictor.model.options["hidden"] == 8
    with pytest.raises(DataError, match="width_of_everything"):
        fit(DATA, "score", model="svd", width_of_everything=3)


def test_a_checkpoint_resumes_the_same_run_and_no_other(tmp_path):
    whole = fit(DATA, "score", model="svd", seed=0, epochs=3)
    fit(DATA, "score", model="svd", seed=0, epochs=3, checkpoint_dir=tmp_path)
    again = fit(DATA, "score", model="svd", seed=0, epochs=3, checkpoint_dir=tmp_path)
    assert again.held_out == whole.held_out
    for changes in ({"seed": 1}, {"epochs": 4}, {"hidden": 8}, {"target": "kind"}):
        kept = {"target": "score", "seed": 0, "epochs": 3} | changes
        with pytest.raises(DataError, match="another run"):
            fit(DATA, model="svd", checkpoint_dir=tmp_path, **kept)


def test_the_progress_bar_shows_the_validation_score(capsys):
    fit(DATA, "score", model="svd", epochs=2, progress=True)
    shown = capsys.readouterr()
    assert "svd on score" in shown.out + shown.err
    assert "validation r2" in shown.out + shown.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(TrainingError, match="no CUDA device"):
        fit(DATA, "score", model="svd", device="cuda")


@pytest.mark.parametrize("model", ["svd", "ridge", "kernel_spectra"])
def test_factors_that_are_not_finite_are_refused_by_their_row(model):
    batch = DATA.batch.with_groups(
        [replace(group, u=group.u.clone()) for group in DATA.batch.groups]
    )
    batch.groups[0].u[0, 7, 0, 0] = float("nan")
    with pytest.raises(DataError, match="row 7 hold NaN"):
        fit(replace(DATA, batch=batch), "score", model=model, epochs=1)


def test_a_checkpoint_of_other_loras_is_another_run(tmp_path):
    fit(DATA, "score", model="svd", epochs=1, checkpoint_dir=tmp_path)
    batch = DATA.batch.with_groups(
        [replace(group, u=group.u * 1.01) for group in DATA.batch.groups]
    )
    with pytest.raises(DataError, match="another run"):
        fit(replace(DATA, batch=batch), "score", model="svd", epochs=1, checkpoint_dir=tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["ridge", "kernel_product"])
def test_closed_form_models_with_groups_are_solved_on_the_gpu(model):
    assert fit(DATA, "score", model=model, device="cuda").held_out["r2"] > 0.5


def test_groups_are_where_the_model_is():
    assert group_numbers(DATA, SPLIT.train, "meta").device.type == "meta"
