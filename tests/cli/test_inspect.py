import json
import os
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.inspect.files import write_kohya
from tests.inspect.schema import violations

from lorascope.inspect import scan as scan_module
from lorascope.inspect.examine import Examined


@pytest.fixture
def many(adapter):
    """A folder of two adapters and a web page."""
    folder = adapter.parent / "many"
    for name in ("b-good", "a-good"):
        shutil.copytree(adapter, folder / name)
    (folder / "c-bad.safetensors").write_bytes(b"<!DOCTYPE html>")
    return folder


def test_one_adapter_is_reported(run, adapter):
    code, out, err = run("inspect", adapter)
    assert (code, err) == (0, "")
    assert "3 layers, rank 2" in out
    assert "model.layers.*.q_proj" in out
    assert "█" in out
    assert "model.layers.1.q_proj" in run("inspect", "--layers", adapter)[1]


def test_base_training_and_trigger_words_are_said(run, tmp_path):
    out = run("inspect", write_kohya(tmp_path / "a.safetensors"))[1]
    for words in (
        "SD1",
        "cannot be told apart",
        "trigger words: sks dog, best dog",
        "dog (20)",
        "dim 4",
    ):
        assert words in out


def test_json_follows_its_schema(run, adapter, many):
    for words in (["--json", adapter], ["--json", many], ["--json", "--headers", many],
                  ["--json", "--results", many.parent / "r.jsonl", many]):  # fmt: skip
        code, out, err = run("inspect", *words)
        document = json.loads(out)
        assert violations(document) == []
        assert err == ""
        assert code == (0 if words[1] == adapter else 2)
    broken = {**document, "files": [{"path": 3}]}
    assert violations(broken)


def test_json_is_one_document(run, adapter):
    document = json.loads(run("inspect", "--json", adapter)[1])
    assert document["schema"] == "lorascope.inspect/1"
    assert [file["path"] for file in document["files"]] == [str(adapter)]
    assert len(document["files"][0]["layers"]) == 3
    assert document["files"][0]["layers"][0]["scale"]["factor"] == 2.0


@pytest.mark.parametrize("words", [["--json"], ["--layers"], ["--json", "--headers"]])
def test_whole_documents_of_many_files_take_the_processes(run, many, monkeypatch, words):
    alone = run("inspect", "--processes", 1, *words, many)
    asked = []
    real = scan_module.in_order
    monkeypatch.setattr(
        scan_module, "in_order", lambda *a, **how: asked.append(how["processes"]) or real(*a, **how)
    )
    assert run("inspect", "--processes", 2, *words, many) == alone
    assert asked == [2]


def test_json_of_many_files_is_not_gathered_first(run, many, monkeypatch):
    held = []
    real = Examined.to_json

    def watched(result):
        document = Watched(real(result))
        held.append(weakref.ref(document))
        assert sum(one() is not None for one in held) <= 2
        return document

    monkeypatch.setattr(Examined, "to_json", watched)
    document = json.loads(run("inspect", "--json", many)[1])
    assert len(document["files"]) == len(held) == 3


class Watched(dict):
    """A document that can be referred to weakly."""


def test_sarif_is_one_document(run, many):
    code, out, _ = run("inspect", "--sarif", many)
    log = json.loads(out)
    assert code == 2
    assert [r["ruleId"] for r in log["runs"][0]["results"] if r["level"] == "error"] == ["web-page"]
    assert run("inspect", "--sarif", "--json", many)[0] == 2


def test_a_broken_adapter_ends_with_one(run, adapter):
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: torch.full_like(t, torch.nan) for name, t in tensors.items()}, weights)
    code, out, _ = run("inspect", adapter)
    assert code == 1
    assert "not-finite" in out
    assert run("inspect", "--fail-on", "never", adapter)[0] == 0


def test_the_severity_that_fails_is_chosen(run, tmp_path):
    path = write_kohya(tmp_path / "a.safetensors", metadata={"ss_network_dim": "64"})
    codes = {
        word: run("inspect", "--fail-on", word, path)[0]
        for word in ("error", "warning", "note", "never")
    }
    assert codes == {"error": 0, "warning": 1, "note": 1, "never": 0}


def test_many_files_have_a_line_each_and_a_summary(run, many):
    code, out, err = run("inspect", many)
    assert (code, err) == (2, "")
    lines = out.splitlines()
    assert ["a-good" in lines[0], "b-good" in lines[1], "web-page" in lines[2]] == [True] * 3
    for words in ("by base", "by format", "by outcome", "by problem"):
        assert words in out
    assert run("inspect", "--layers", many)[1].count("norm") > 2


def test_results_are_kept_and_gone_on_from(run, many):
    results = many.parent / "results.jsonl"
    first = run("inspect", "--results", results, many)
    assert len(results.read_text().splitlines()) == 3
    assert run("inspect", "--results", results, many) == first
    assert len(results.read_text().splitlines()) == 3


def test_headers_alone_are_enough_for_much(run, adapter):
    code, out, _ = run("inspect", "--headers", adapter)
    assert code == 0
    assert "values not looked at" in out
    assert "█" not in out


def test_the_strength_is_drawn(run, adapter, many):
    picture = adapter.parent / "a.png"
    assert run("inspect", "--plot", picture, adapter)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = run("inspect", "--plot", picture, many)
    assert (code, "expected one" in err) == (2, True)
    code, out, err = run("inspect", "--plot", adapter.parent / "a.pdf", adapter)
    assert (code, out, "pictures are PNG" in err) == (2, "", True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plot", "a.png", "--headers"], "--headers beside it"),
        (["--plot", "a.png", "--results", "r.jsonl"], "--results beside it"),
        (["--layers", "--results", "r.jsonl"], "--layers beside --results"),
    ],
)
def test_options_that_do_not_go_together_are_told_before_the_work(
    run, adapter, tmp_path, monkeypatch, words, said
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = run("inspect", *words, adapter)
    assert (code, out) == (2, "")
    assert said in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "lfs-pointer"),
        (b"\x00" * 100, "format"),
    ],
)
def test_a_refused_file_is_a_result(run, tmp_path, content, code):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    ended, out, err = run("inspect", path)
    assert (ended, err) == (2, "")
    assert "x.safetensors" in out
    assert code in out
    document = json.loads(run("inspect", "--json", path)[1])
    assert violations(document) == []
    assert document["files"][0]["problems"][0]["code"] == code


@pytest.mark.skipif(
    "LORASCOPE_REAL_FILES" not in os.environ, reason="LORASCOPE_REAL_FILES names no folder"
)
def test_every_real_file_is_explained(run):
    folder = Path(os.environ["LORASCOPE_REAL_FILES"])
    code, out, _ = run("inspect", "--json", "--layers", "--allow-pickle", folder)
    document = json.loads(out)
    assert violations(document) == []
    assert code in (0, 1, 2)
    for file in document["files"]:
        if "hostile_metadata" in file["path"]:
            assert file["problems"][0]["code"] == "no-lora"
        else:
            assert file["outcome"] != "refused", file
            assert file["family"]["name"] != "unknown"
