import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from lorascope.io import open_zoo, read_lora
from lorascope.predict import load_predictor
from lorascope.predict import many as many_module
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
    assert "2 LoRAs in " in err
    assert ": 2 predicted, 0 abstained, 0 uncertain, 0 refused" in err


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
    code, _, err = run(*given, "--results", tmp_path / "answers.jsonl")
    assert code == 2
    assert "--results beside it" in err
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize("place", ["not-there/layers.png", "layers.svg"])
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(
    run, adapter, tmp_path, monkeypatch, place
):
    monkeypatch.setattr("lorascope.predict.load_predictor", None)  # nothing is loaded
    code, out, err = run("predict", adapter, "--plot", tmp_path / place)
    assert (code, out) == (2, "")
    assert err.startswith("Error: Drawing to ")
    assert "Try: " in err


@pytest.fixture
def folder(adapter):
    """A folder of three adapters, one of another base, and a web page."""
    folder = adapter.parent / "many"
    for name in ("a", "b", "c", "d-other-base"):
        shutil.copytree(adapter, folder / name)
    weights = folder / "d-other-base" / "adapter_model.safetensors"
    save_file(
        {name.replace("q_proj", "k_proj"): t for name, t in load_file(weights).items()}, weights
    )
    (folder / "e.safetensors").write_bytes(b"<!DOCTYPE html>")
    return folder


def test_answers_are_kept_and_gone_on_from(run, folder, predictors, monkeypatch):
    results = folder.parent / "answers.jsonl"
    words = ("predict", "--with", predictors / "strength", "--results", results)
    code, out, err = run(*words, folder)
    assert code == 2
    assert err.splitlines()[-1].endswith(": 3 predicted, 0 abstained, 0 uncertain, 2 refused")
    lines = results.read_text().splitlines()
    assert [json.loads(line)["schema"] for line in lines] == ["lorascope.predict.answer/1"] * 5
    monkeypatch.setattr(many_module, "read_lora", pytest.fail)
    again = run(*words, folder)
    assert again[:2] == (code, out)
    assert again[2].splitlines()[:-1] == err.splitlines()[:-1]
    assert "5 LoRAs (5 of them before) in " in again[2]
    assert results.read_text().splitlines() == lines
    files = json.loads(run(*words, "--json", folder)[1])["files"]
    assert files == [json.loads(line)["result"] for line in lines]


def test_results_of_another_command_stay_as_they_are(run, folder, predictors):
    results = folder.parent / "inspected.jsonl"
    run("inspect", "--results", results, folder)
    before = results.read_bytes()
    for form in ((), ("--json",)):
        code, out, err = run(
            "predict", "--with", predictors / "strength", "--results", results, *form, folder
        )
        assert (code, out) == (2, "")
        assert "something else than results" in err
        assert results.read_bytes() == before


def test_processes_say_the_same(run, folder, predictors, monkeypatch):
    words = ("predict", "--with", predictors / "strength", "--with", predictors / "topics")
    alone = run(*words, "--json", "--processes", 1, folder)
    asked = []
    real = many_module.in_order
    monkeypatch.setattr(
        many_module, "in_order", lambda *a, **how: asked.append(how["processes"]) or real(*a, **how)
    )
    found = run(*words, "--json", "--processes", 2, folder)
    assert asked == [2]
    assert found[0] == alone[0] == 2
    assert [(f["path"], f["errors"]) for f in json.loads(found[1])["files"]] == [
        (f["path"], f["errors"]) for f in json.loads(alone[1])["files"]
    ]
    summary = {"files": 5, "predicted": 3, "abstained": 0, "uncertain": 0, "refused": 2}
    assert json.loads(found[1])["summary"] == json.loads(alone[1])["summary"] == summary


def test_a_scale_that_was_assumed_is_a_note_on_the_file(run, adapter, predictors):
    words = ("predict", "--with", predictors / "strength", adapter)
    assert "note:" not in run(*words)[1]
    place = adapter / "adapter_config.json"
    config = json.loads(place.read_text())
    del config["lora_alpha"]
    place.write_text(json.dumps(config))
    ambiguities = list(read_lora(adapter).provenance.ambiguities)
    assert any(word.startswith("scale: ") for word in ambiguities)
    code, out, _ = run(*words)
    assert code == 0
    assert f"  note: {ambiguities[0]}\n" in out
    document = json.loads(run(*words, "--json")[1])
    assert document["files"][0]["ambiguities"] == ambiguities
    assert document["files"][0]["left"] == []
    assert document["summary"]["uncertain"] == 1


def test_one_file_says_where_the_time_went(run, adapter, predictors):
    _, _, err = run("predict", "--with", predictors / "strength", adapter)
    assert err.startswith("1 LoRA read in ")
    assert "asked of 1 predictor(s) in " in err
