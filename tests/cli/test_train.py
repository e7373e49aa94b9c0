import json
import shutil

import pyarrow.parquet as pq
import pytest

from lorascope.cli.train import number
from lorascope.predict import load_predictor
from lorascope.train.controls import CONTROLS
from lorascope.train.trust import FEWEST


def test_a_predictor_is_trained_saved_and_scored(run, zoo, tmp_path):
    out_folder = tmp_path / "p"
    code, out, err = run(
        "train", "--zoo", zoo, "--target", "strength", "--model", "ridge", "--out", out_folder
    )
    assert (code, err) == (0, "")
    assert "validation" in out
    assert "r2" in out
    assert "saved to" in out
    predictor = load_predictor(out_folder)
    few = predictor.report["rows"]["validation"] < FEWEST
    assert few == (predictor.trust.interval is None)
    assert few == ("predictions come without them" in " ".join(out.split()))
    assert predictor.target.name == "strength"
    assert predictor.report["metrics"]["test"]["r2"] > 0.8  # the label is the norm


def test_options_that_change_nothing_are_told(run, zoo, tmp_path):
    words = ("train", "--zoo", zoo, "--target", "strength", "--out", tmp_path / "p", "--epochs", 2)
    _, _, err = run(*words, "--model", "ridge", "--checkpoint", tmp_path / "c")
    assert "ridge is solved at once; --epochs and --checkpoint change nothing" in err


def test_the_folder_has_a_default_name(run, zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(
        "train", "--zoo", zoo, "--target", "topics", "--model", "gl_net", "--epochs", 2, "--json"
    )
    document = json.loads(out)
    assert code == 0
    assert document["predictor"] == "predictor-topics-gl_net"
    assert document["report"]["epochs"] <= 2
    assert load_predictor(tmp_path / document["predictor"]).model.name == "gl_net"


def test_a_target_that_reads_like_a_path_stays_below(run, zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "zoo"
    shutil.copytree(zoo, copy)
    for name in ("recipe.json", "index.parquet"):
        path = copy / name
        if name == "recipe.json":
            recipe = json.loads(path.read_text())
            recipe["targets"]["../x"] = recipe["targets"].pop("topics")
            path.write_text(json.dumps(recipe))
        else:
            index = pq.read_table(path)
            names = [{"label:topics": "label:../x"}.get(n, n) for n in index.column_names]
            pq.write_table(index.rename_columns(names), path)
    code, out, err = run("train", "--zoo", copy, "--target", "../x", "--model", "ridge", "--json")
    assert (code, json.loads(out)["predictor"]) == (0, "predictor-.._x-ridge"), err
    assert (tmp_path / "predictor-.._x-ridge").is_dir()


def test_the_controls_stand_beside_the_test_scores(run, zoo, tmp_path):
    words = (
        "train",
        "--zoo",
        zoo,
        "--target",
        "strength",
        "--model",
        "ridge",
        "--out",
        tmp_path / "p",
    )
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    for name in CONTROLS:
        assert f"test: {name}" in out
    controls = json.loads(run(*words, "--json")[1])["controls"]
    assert controls["norm only"]["r2"] > 0.5 > controls["majority"]["r2"]  # the label is the norm


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_place_that_is_taken_is_told_before_the_training(run, zoo, tmp_path, taken):
    place = tmp_path / "p"
    if taken == "file":
        place.write_text("thesis")
    else:
        place.mkdir()
        (place / "thesis").touch()
    words = ("--target", "strength", "--model", "oracle")  # which the training would not know
    code, out, err = run("train", "--zoo", zoo, *words, "--out", place)
    assert (code, out) == (2, "")
    assert "Expected an empty folder" in err


def test_a_training_goes_on_from_its_checkpoint(run, zoo, tmp_path):
    words = ("train", "--zoo", zoo, "--target", "strength", "--out", tmp_path / "p")
    words += ("--model", "svd", "--epochs", 1)
    assert run(*words, "--checkpoint", tmp_path / "c")[0] == 0
    assert list((tmp_path / "c").iterdir())
    assert run(*words, "--checkpoint", tmp_path / "c")[0] == 0
    code, _, err = run(*words, "--checkpoint", tmp_path / "c", "--seed", 1)
    assert code == 2
    assert "another run" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "beauty"], "beauty"),
        (["--target", "strength", "--model", "oracle"], "oracle"),
        (["--target", "strength", "--epochs", "0"], "epochs"),
        (["--target", "strength", "--device", "abacus"], "abacus"),
        (["--target", "strength", "--device", "meta"], "meta"),
    ],
)
def test_bad_input_is_one_message(run, zoo, tmp_path, words, said):
    code, out, err = run("train", "--zoo", zoo, "--out", tmp_path / "p", *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert said in err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_the_controls_cannot_take_is_told_before_the_training(run, zoo, tmp_path, seed):
    words = ("--target", "strength", "--seed", seed, "--out", tmp_path / "p")
    code, out, err = run("train", "--zoo", zoo, *words)
    assert (code, out, "--seed" in err) == (2, "", True)
    assert not (tmp_path / "p").exists()


def test_a_missing_score_is_a_dash():
    assert (number(None), number(0.12345)) == ("-", "0.123")
