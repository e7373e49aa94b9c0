import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from lorascope.cli.predict import (
    Answer,
    Clock,
    ask,
    explained_in_words,
    in_words,
    quality,
    show,
)
from lorascope.core import LoRA
from lorascope.io import open_zoo, read_lora
from lorascope.predict import Prediction, Target, load_predictor
from lorascope.predict.explain import Explanation, Part
from lorascope.train import fit


@pytest.fixture(scope="session")
def predictors(zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictors")
    for target in ("strength", "topics"):
        fit(open_zoo(zoo), target, model="ridge").save(folder / target)
    return folder


def test_the_answers_are_those_of_the_predictor(run, adapter, predictors):
    code, out, err = run("predict", "--with", predictors / "strength", "--json", adapter)
    assert (code, err) == (0, "")
    document = json.loads(out)
    expected = load_predictor(predictors / "strength").predict(read_lora(adapter))[0]
    assert document["schema"] == "lorascope.predict/1"
    assert document["files"][0]["predictions"] == [json.loads(json.dumps(expected.to_json()))]
    assert document["predictors"][0]["target"] == "strength"


def test_many_files_and_predictors_in_words(run, adapter, predictors):
    for name in ("adapter-2", "adapter-10"):
        shutil.copytree(adapter, adapter.parent / "many" / name)
    code, out, err = run(
        "predict",
        "--with", predictors / "strength",
        "--with", predictors / "topics",
        adapter.parent / "many",
    )  # fmt: skip
    assert code == 0
    assert out.index("adapter-2\n") < out.index("adapter-10\n")
    assert out.count("  strength: ") == out.count("  topics: ") == 2
    assert " dB" in out
    assert "2 LoRA(s) read in" in err


def test_a_file_that_does_not_fit_costs_its_own_line(run, adapter, predictors):
    many = adapter.parent / "many"
    shutil.copytree(adapter, many / "good")
    shutil.copytree(adapter, many / "other-base")
    weights = many / "other-base" / "adapter_model.safetensors"
    save_file(
        {name.replace("q_proj", "k_proj"): t for name, t in load_file(weights).items()}, weights
    )
    (many / "zzz.safetensors").write_bytes(b"no")
    code, out, err = run("predict", "--with", predictors / "strength", "--json", many)
    files = json.loads(out)["files"]
    assert code == 2
    assert [len(file["predictions"]) for file in files] == [1, 0, 0]
    assert "k_proj" in files[1]["errors"][0]
    code, out, err = run("predict", "--with", predictors / "strength", many)
    assert code == 2
    assert out.count("  strength: ") == 1
    assert "k_proj" in err
    assert "zzz" in err


def test_empty_and_huge_adapters_cost_their_own_lines(run, adapter, predictors):
    many = adapter.parent / "many"
    for name in ("empty", "good", "huge"):
        shutil.copytree(adapter, many / name)
    weights = "adapter_model.safetensors"
    save_file({}, many / "empty" / weights)
    pair = load_file(many / "huge" / weights)
    save_file({name: t.float() * 1e25 for name, t in pair.items()}, many / "huge" / weights)
    code, out, _ = run("predict", "--with", predictors / "strength", "--json", many)
    files = json.loads(out)["files"]
    assert code == 2
    assert [len(file["predictions"]) for file in files] == [0, 1, 0]
    assert [len(file["errors"]) for file in files] == [1, 0, 1]


def test_a_lora_without_layers_is_not_passed_over(adapter, predictors, monkeypatch):
    monkeypatch.setattr("lorascope.cli.predict.read_or_note", lambda *_: LoRA({}))
    predictor = load_predictor(predictors / "strength")
    (answer,) = ask([predictor], [adapter], Clock(), allow_pickle=False)
    assert "none of the 3 layers" in answer.errors[0]


@pytest.mark.parametrize(
    "words", [["predict", "--with", "GONE", "ADAPTER"], ["predict", "--with", "PREDICTOR", "GONE"]]
)
def test_what_is_not_there_is_one_message(run, adapter, predictors, tmp_path, words):
    places = {"GONE": tmp_path / "gone", "ADAPTER": adapter, "PREDICTOR": predictors / "strength"}
    code, out, err = run(*(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_without_words_the_bundled_predictors_answer_on_the_bundled_sample(run):
    code, out, err = run("predict", "--json")
    assert (code, err) == (0, "")
    predictions = json.loads(out)["files"][0]["predictions"]
    assert {"sources", "accuracy"} <= {prediction["target"] for prediction in predictions}
    assert all(prediction["warnings"] == [] for prediction in predictions)


def test_answers_in_words():
    many = Target("t", "multilabel", tuple(f"c{i}" for i in range(40)))
    chances = {name: 0.5 + i / 100 for i, name in enumerate(many.classes)}
    words = in_words(Prediction(many, probabilities=chances))
    assert words.startswith("c39 0.89, c38 0.88")
    assert words.endswith("and 16 more")
    assert in_words(Prediction(many, probabilities=dict.fromkeys(many.classes, 0.1))) == "none"
    score = Target("s", "regression", unit="dB")
    assert in_words(Prediction(score, value=1.23456)) == "1.235 dB"
    assert (
        quality(Prediction(score, value=1.0, held_out={"rmse": 0.5, "r2": None}))
        == "(held out: rmse 0.5)"
    )
    assert quality(Prediction(score, value=1.0)) == ""


def test_an_explanation_is_printed_and_drawn(run, adapter, predictors, tmp_path):
    picture = tmp_path / "layers.png"
    given = ("predict", "--with", predictors / "strength", adapter, "--plot", picture)
    code, out, err = run(*given, "--explain")
    assert code == 0, err
    assert "baseline" in out
    assert "not accounted for" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run("predict", "--with", predictors / "strength", adapter, "--explain", "--json")
    (explanation,) = json.loads(out)["files"][0]["explanations"]
    assert explanation["target"] == "strength"
    assert len(explanation["parts"]) == 3
    code, _, err = run("predict", adapter, adapter, "--plot", picture)
    assert code == 2
    assert "one of each" in err


@pytest.mark.parametrize("place", ["not-there/layers.png", "layers.svg"])
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(
    run, adapter, tmp_path, monkeypatch, place
):
    monkeypatch.setattr("lorascope.predict.load_predictor", None)  # nothing is loaded
    code, out, err = run("predict", adapter, "--plot", tmp_path / place)
    assert (code, out) == (2, "")
    assert err.startswith("Error: Drawing to ")
    assert "Try: " in err


def test_intervals_abstention_and_explanations_in_words():
    score = Target("s", "regression", unit="dB")
    sure = Prediction(score, value=1.0, interval=(0.5, 1.5), level=0.9)
    assert in_words(sure) == "1 dB, 0.5 to 1.5 (90 %)"
    parts = tuple(Part(f"layer.{i}", float(-i), (1.0, 2.0)) for i in range(10))
    lines = explained_in_words(Explanation("s", "", -40.0, 4.0, parts, "integrated"))
    assert "-9  layer.9  (directions +1, +2)" in lines[1]
    assert "-1  2 other layers" in lines[-2]
    assert "+1  not accounted for" in lines[-1]
    odd = Prediction(score, value=1.0, outlier=3.0, reason="unusual size")
    console = Console(record=True, width=200)
    show(Answer(Path("file"), [odd]), console, console)
    assert "abstains: unusual size (outlier score 3.00, limit 1)" in console.export_text()
