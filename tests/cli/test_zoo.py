import pytest
import torch
from tests.zoo.stand_ins import write_arc, write_language_base

from lorascope.io import open_zoo, read_lora, write_lora


def test_export_gives_the_lora_of_that_id(zoo, adapter):
    opened = open_zoo(zoo)
    mine, theirs = opened.lora(opened.row_of(107)), read_lora(adapter)
    assert set(mine) == set(theirs)
    for name in mine:
        torch.testing.assert_close(mine[name].dense(), theirs[name].dense())


@pytest.mark.parametrize(
    "words",
    [
        ["export", "ZOO", "7", "--out", "OUT"],
        ["info", "OUT"],
        ["export", "OUT", "7", "--out", "OUT"],
    ],
)
def test_what_is_not_there_is_one_message(run, zoo, tmp_path, words):
    places = {"ZOO": zoo, "OUT": tmp_path / "x"}
    code, out, err = run("zoo", *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_nothing_is_overwritten(run, zoo, adapter):
    code, out, err = run("zoo", "export", zoo, 108, "--out", adapter)
    assert (code, out) == (2, "")
    assert "adapter" in err


def test_a_folder_of_loras_becomes_a_zoo(run, zoo, tmp_path, monkeypatch):
    opened = open_zoo(zoo)
    lines = ["file,score,maker"]
    for row in range(6):
        write_lora(opened.lora(row), tmp_path / "mine" / f"lora-{row}")
        lines.append(f"lora-{row},{row * 1.5},maker-{row % 3}")
    (tmp_path / "mine" / "bad.safetensors").write_bytes(b"no")
    lines.append("bad.safetensors,1.0,maker-0")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = run("zoo", "import", "mine", "--labels", "labels.csv", "--group", "maker")
    assert code == 0
    assert out.strip() == "6 LoRAs taken, 1 left out: mine-zoo"
    assert err.startswith("left out bad.safetensors: ")
    made = open_zoo(tmp_path / "mine-zoo")
    assert made.labels("score").tolist() == [0.0, 1.5, 3.0, 4.5, 6.0, 7.5]
    assert set(made.groups()) == {"maker-0", "maker-1", "maker-2"}


def test_an_import_without_groups_warns(run, zoo, adapter, tmp_path):
    (tmp_path / "labels.csv").write_text("file,score\nadapter,1\n")  # 1 alone could be a class
    words = ("--labels", tmp_path / "labels.csv", "--out", tmp_path / "z")
    assert run("zoo", "import", adapter.parent, *words)[0] == 2
    words = (*words, "--kind", "score=regression")
    code, _, err = run("zoo", "import", adapter.parent, *words)
    assert code == 0
    assert "warning: There is no group column" in err


@pytest.mark.parametrize("word", ["score", "score=", "=regression", "score=guess"])
def test_a_kind_of_another_form_is_one_message(run, tmp_path, word):
    code, out, err = run("zoo", "import", tmp_path, "--labels", tmp_path / "l.csv", "--kind", word)
    assert (code, out) == (2, "")
    assert "COLUMN=KIND" in err


def test_an_unknown_family_or_another_zoo_is_one_message(run, zoo, tmp_path):
    code, out, err = run("zoo", "build", "cats", "--count", 4)
    assert (code, out) == (2, "")
    assert "'cats'" in err
    assert "exam" in err
    code, out, err = run("zoo", "build", "exam", "--count", 4, "--out", zoo)
    assert (code, out) == (2, "")
    assert run("zoo", "build", "exam", "--dtype", "int4", "--out", tmp_path / "new")[0] == 2
    assert not (tmp_path / "new").exists()
    assert "another recipe" in err


@pytest.mark.slow
def test_a_zoo_is_built_and_grown(run, tmp_path):
    for count in (8, 12):
        code, out, _ = run("zoo", "build", "exam", "--count", count, "--out", tmp_path / "z")
        assert code == 0
        assert out.startswith(f"{count} LoRAs: ")
    code, out, _ = run("zoo", "info", tmp_path / "z")
    assert code == 0
    assert "12 LoRAs" in out
    assert "accuracy" in out


def test_the_papers_zoos_say_what_they_need(run, tmp_path):
    code, out, err = run("zoo", "build", "celeba-sd14")
    assert (code, out) == (2, "")
    assert "img_align_celeba/" in err
    assert "--data FOLDER" in err
    code, out, err = run("zoo", "build", "exam", "--data", tmp_path)
    assert (code, out) == (2, "")
    assert "takes no --data" in err
    code, out, err = run("zoo", "build", "cats")
    assert "arc-llama3.2-3b" in err
    code, out, err = run(
        "zoo", "build", "exam", "--count", 1, "--cluster", "slurm", "--out", tmp_path
    )
    assert (code, out) == (2, "")
    assert "found the cluster 'slurm', expected 'ray'" in err


@pytest.mark.slow  # a worker that compiles
def test_one_of_the_papers_zoos_from_folders(run, tmp_path):
    base, data = write_language_base(tmp_path / "base"), write_arc(tmp_path / "arc")
    places = ("--base", base, "--data", data, "--out", tmp_path / "zoo")
    code, out, err = run("zoo", "build", "arc-qwen2-1.5b", *places, "--count", 2, "--processes", 1)
    assert code == 0, err
    assert out.startswith("2 LoRAs: ")
    assert set(open_zoo(tmp_path / "zoo").targets) >= {"sources", "accuracy", "eval_loss"}
