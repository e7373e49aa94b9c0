import json

import pytest
from tests.zoo.factory.planted_zoo import write_planted


@pytest.fixture
def planted(tmp_path):
    return write_planted(tmp_path / "planted").path


def test_export_writes_a_peft_folder(run, planted, tmp_path):
    words = ("--peft", tmp_path / "a", "--base", "someone/tiny")
    code, out, err = run("zoo", "export", planted, 5, *words)
    assert (code, err) == (0, "")
    assert out.strip() == str(tmp_path / "a")
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/tiny"
    assert (tmp_path / "a/README.md").read_text().startswith("---")


def test_an_id_that_is_not_there_is_one_message(run, planted, tmp_path):
    code, out, err = run("zoo", "export", planted, 99, "--peft", tmp_path / "a")
    assert (code, out) == (2, "")
    assert "id 99" in err
    assert not (tmp_path / "a").exists()


def test_the_card_is_written_into_the_zoo(run, planted):
    words = ("--license", "mit", "--name", "Twelve adapters")
    code, out, err = run("zoo", "card", planted, *words)
    assert (code, err) == (0, "")
    assert out.strip() == str(planted / "README.md")
    text = (planted / "README.md").read_text()
    assert "# Twelve adapters" in text
    assert 'license: "mit"' in text


def test_a_dry_run_lists_what_would_go(run, planted):
    code, out, err = run("zoo", "push", planted, "anna/my-zoo", "--dry-run", "--with-log")
    assert (code, err) == (0, "")
    assert "build.jsonl" in out
    assert "shards/shard-00002.safetensors" in out
    assert "would send" in out
    assert "private data set anna/my-zoo" in out


def test_a_repository_without_an_owner_is_one_message(run, planted):
    code, out, err = run("zoo", "push", planted, "my-zoo", "--dry-run")
    assert (code, out) == (2, "")
    assert "USER/NAME" in err
