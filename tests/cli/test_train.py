import json

import pytest

from lorascope.cli.train import number
from lorascope.predict import load_predictor


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
    assert predictor.target.name == "strength"
    assert predictor.report["metrics"]["test"]["r2"] > 0.8  # the label is the norm


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "beauty"], "beauty"),
        (["--target", "strength", "--model", "oracle"], "oracle"),
        (["--target", "strength", "--epochs", "0"], "epochs"),
        (["--target", "strength", "--device", "abacus"], "abacus"),
    ],
)
def test_bad_input_is_one_message(run, zoo, tmp_path, words, said):
    code, out, err = run("train", "--zoo", zoo, "--out", tmp_path / "p", *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert said in err
    assert not (tmp_path / "p").exists()


def test_a_missing_score_is_a_dash():
    assert (number(None), number(0.12345)) == ("-", "0.123")
