import json

import pytest


def test_the_zoos_are_named_with_their_sizes(run):
    code, out, err = run("zoo", "collection", "--list")
    assert (code, err) == (0, "")
    assert ["faces-rank-16", "150"] in [line.split() for line in out.splitlines()]
    code, out, err = run("zoo", "collection", "--list", "objects")
    assert (code, out.split(), err) == (0, ["objects", "2046"], "")


def test_a_share_is_built_and_summed_up(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    code, out, _ = run("zoo", "collection", "exam-dora", "--share", "0.001", "--processes", "1")
    assert code == 0
    assert "exam-dora (1 of 1): 1 LoRAs" in out
    assert "| exam-dora | 1 | 0 | 0 |" in out
    assert json.loads((tmp_path / "zoos" / "collection.json").read_text())["total"]["loras"] == 1


def test_a_device_that_is_not_there_is_one_message(run):
    code, _, err = run("zoo", "collection", "exam-dora", "--device", "abacus")
    assert code == 2
    assert "'abacus'" in err


@pytest.mark.parametrize("words", [("collection", "cats"), ("build", "cats")])
def test_an_unknown_zoo_is_one_message(run, words):
    code, out, err = run("zoo", *words)
    assert (code, out) == (2, "")
    assert "exam-llama-control" in err
