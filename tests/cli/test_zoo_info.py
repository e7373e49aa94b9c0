import json

import pytest
from tests.zoo.factory.planted_zoo import write_planted

from lorascope.cli.zoo_info import spread, troubles, zoo_facts
from lorascope.io import open_zoo, read_lora
from lorascope.io.shard_writer import ZooWriter


def test_info_says_what_a_zoo_holds(run, zoo):
    code, out, err = run("zoo", "info", zoo)
    assert (code, err) == (0, "")
    assert "80 LoRAs in 80 groups, 3 layers (2 of 8 x 6, 1 of 5 x 6)" in out
    for word in (
        "strength",
        "topics (multilabel)",
        "odd",
        "family (multiclass)",
        "rate",
        "base tiny",
    ):
        assert word in out


def test_info_as_json(run, zoo):
    code, out, err = run("zoo", "info", zoo, "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert facts["count"] == 80
    assert facts["targets"]["topics"]["shares"]["odd"] == 0.5
    assert sum(facts["targets"]["family"]["shares"].values()) == pytest.approx(1)
    assert facts["targets"]["strength"]["base_value"] == 0.0
    assert facts["hyper"]["rate"]["most"] == pytest.approx(0.079)
    assert facts["report"] == {"ceiling": 1.0}


def test_missing_labels_of_classes_are_counted_apart(run, adapter, tmp_path):
    lora = read_lora(adapter)
    targets = {
        "topics": {"kind": "multilabel", "classes": ["odd", "big"]},
        "family": {"kind": "multiclass", "classes": ["a", "b"]},
    }
    writer = ZooWriter(tmp_path / "z", {"kind": "test", "targets": targets})
    labels = [([True, False], "a"), (None, None), ([True, True], "b"), (None, "b")]
    rows = [
        {"id": i, "seed": i, "group": f"g{i}", "label:topics": topics, "label:family": family}
        for i, (topics, family) in enumerate(labels)
    ]
    writer.add_shard(0, [lora] * 4, rows)
    writer.finish()
    code, out, err = run("zoo", "info", tmp_path / "z", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)["targets"]
    assert facts["topics"] == {
        "kind": "multilabel",
        "shares": {"odd": 1.0, "big": 0.5},
        "missing": 2,
    }
    assert facts["family"]["missing"] == 1
    assert facts["family"]["shares"] == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert "missing: 2 LoRAs have no label" in run("zoo", "info", tmp_path / "z")[1]


def test_spread_counts_what_is_missing():
    assert spread([1.0, float("nan"), 3.0]) == {
        "missing": 1,
        "least": 1.0,
        "mean": 2.0,
        "most": 3.0,
        "std": 1.0,
    }
    assert spread([float("nan")]) == {"missing": 1}


def test_sizes_ceilings_and_failures_are_told(run, tmp_path):
    zoo = write_planted(tmp_path / "z", seeds=range(6))
    writer = ZooWriter(zoo.path, zoo.recipe)
    writer.log(
        event="failed", shard=1, ids=[3, 90, 91], problem="Traceback\nValueError: a bad picture"
    )
    code, out, err = run("zoo", "info", zoo.path)
    assert (code, err) == (0, "")
    assert "3 of rank 1, 3 of rank 2" in out
    assert "MB in 2 shards" in out
    assert "r2 0.9" in out
    assert "failed: 2 LoRAs are not there" in out
    assert "2 times: ValueError: a bad picture" in out
    facts = json.loads(run("zoo", "info", zoo.path, "--json")[1])
    assert facts["failures"]["missing"] == [90, 91]
    assert facts["failures"]["retried"] == 1
    assert facts["ceilings"] == {"score": {"r2": 0.9}}
    assert facts["bytes"] > 0
    assert facts["diverged"] == 0


def test_diverged_loras_are_counted(tmp_path):
    zoo = write_planted(tmp_path / "z", seeds=range(3), diverged=True)
    assert zoo_facts(open_zoo(zoo.path))["diverged"] == 3


def test_what_went_wrong_is_a_line_each():
    told = {
        "missing": [3],
        "reasons": {"DataError: none is left": 1},
        "skipped": [1, 2],
        "left_out": 4,
    }
    assert troubles({"diverged": 1, "failures": told}) == [
        "diverged: 1 LoRAs, whose scores are missing",
        "failed: 1 LoRAs are not there; build again to retry",
        "  1 times: DataError: none is left",
        "skipped: bad data of 2 LoRAs, made without; build.jsonl says what",
        "left out: 4 files; build.jsonl says why",
    ]
