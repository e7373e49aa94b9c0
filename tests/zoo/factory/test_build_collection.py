"""A small share of the collection, really built."""

import json

import pytest

from lorascope.errors import DataError
from lorascope.io.shards import open_zoo
from lorascope.zoo.factory import build_collection as module
from lorascope.zoo.factory.build_collection import ZooSummary, build_collection, summary_table

OPTIONS = {"processes": 0, "compile": False, "progress": False}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    return tmp_path / "zoos"


def test_zoos_are_built_once_and_summed_up(home):
    said = []
    first = build_collection(
        ["exam-dora", "exam-targets"], share=0.006, note=said.append, **OPTIONS
    )
    assert said == ["exam-dora (1 of 2): 1 LoRAs", "exam-targets (2 of 2): 2 LoRAs"]
    assert [(s.loras, s.failed, s.problem) for s in first] == [(1, 0, ""), (2, 0, "")]
    assert all(s.seconds > 0 and s.peak_bytes > 0 and s.disk_bytes > 0 for s in first)
    dora = open_zoo(first[0].folder).lora(0)
    assert {side.kind for side in dora.side.values()} == {"dora_magnitude"}
    mixed = open_zoo(first[1].folder)
    assert mixed.lora(0).provenance.scales != mixed.lora(1).provenance.scales
    again = build_collection(["exam-dora"], share=0.006, **OPTIONS)
    assert again[0] == first[0]
    stored = json.loads((home / "collection.json").read_text())
    assert [row["name"] for row in stored["zoos"]] == ["exam-targets", "exam-dora"]
    assert stored["total"]["loras"] == 3
    assert (home / "collection.md").read_text() == summary_table([first[1], first[0]])


def test_a_zoo_that_cannot_be_built_does_not_stop_the_others(home, monkeypatch):
    def broken(family, count, **options):
        raise DataError("building\nno room")

    monkeypatch.setattr(module, "build_zoo", broken)
    summary = build_collection(["exam-qwen", "exam-llama"], **OPTIONS)
    assert [(s.problem, s.failed) for s in summary] == [("no room", 2000)] * 2
    assert "no room" in (home / "collection.md").read_text()


def test_an_unknown_name_is_refused(home):
    with pytest.raises(DataError, match="exam-qwen-second"):
        build_collection(["exam-gpt"])


def test_the_table_names_ceilings_and_rates():
    summary = ZooSummary(
        "faces",
        10,
        loras=9,
        diverged=1,
        seconds=60,
        ceilings={"clip_score": {"r2": 0.91}},
        hyper_r2={"clip_score": -0.1, "fidelity": 0.25},
    )
    table = summary_table([summary]).splitlines()
    assert table[2].startswith("| faces | 9 | 1 | 1 | 1.0 | 9 |")
    assert "clip_score 0.91 (0.00), fidelity - (0.25)" in table[2]
    assert table[3].startswith("| all | 9 |")
