import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lorascope.bench.tasks import ZooFacts
from lorascope.bench.trust_exam import (
    CONTROL,
    DORA,
    SECOND,
    SPLITS,
    TRUST,
    _by_other_methods,
    examine,
    kind_of,
    measure,
    read,
)
from lorascope.bench.zoos import ask
from lorascope.errors import DataError, IntegrityError, MissingExtraError


@pytest.fixture
def run(trust_records):
    records, _ = trust_records
    return records[0]["seeds"]["0"]


def facts(name, family="faces", base="one"):
    return ZooFacts(name, "", "d", 1, 1, family, base, {}, {})


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (facts("faces-second", base="two"), SECOND),
        (facts("faces-control", base="three"), CONTROL),
        (facts("faces-rank-16"), "trained at rank 16"),
        (facts("exam-dora"), DORA),
        (facts("objects", family="objects"), "other data, same base"),
        (facts("exam-llama", base="four"), "another base"),
        (facts("mine"), "mine"),
    ],
)
def test_others_are_named_by_what_they_are(other, kind):
    assert kind_of(facts("faces"), other) == kind


def test_intervals_and_probabilities_are_those_of_the_fit(run):
    assert [row["target"] for row in run["probabilities"]] == ["sources"]
    assert 0 <= run["probabilities"][0]["after"] <= 1
    rows = {row["target"]: row for row in run["intervals"]}
    assert set(rows) == {"score", "dataset_size", "learning_rate"}
    for row in rows.values():
        assert row["lowest"] <= row["mean"] <= row["highest"]
        assert row["repetitions"] == 50
        assert 0.5 < row["inside"] <= 1
    assert rows["score"]["score"] > 0.9


def test_outliers_are_examined_on_each_split(trust_records):
    record = trust_records[0][0]
    assert list(record["splits"]) == [str(seed) for seed in range(SPLITS)]
    for kind in (CONTROL, "trained at rank 2", DORA):
        rows = [
            row
            for split in record["splits"].values()
            for row in split["outliers"]
            if row["kind"] == kind
        ]
        assert len(rows) == SPLITS
    assert "outliers" not in record["seeds"]["0"]


def test_zoos_of_other_layers_are_left_out_with_the_reason(trust_records):
    left_out = trust_records[0][0]["left_out"]
    assert list(left_out) == ["home-conv"]
    assert "layer" in left_out["home-conv"]


def test_the_mixture_is_of_equal_parts(run):
    assert run["risk"]["parts"] == {"test": 40, SECOND: 40, CONTROL: 40}


def test_what_was_measured_is_not_measured_again(trust_asked, trust_records, tmp_path):
    records, folder = trust_records
    [path] = folder.iterdir()
    before = path.read_bytes()
    said = []
    assert examine(trust_asked, folder, note=said.append) == records
    assert said == ["home: measured before"]
    assert path.read_bytes() == before
    assert json.loads(before) == records[0]
    assert str(folder) not in before.decode()
    assert trust_asked.folders["home"] not in before.decode()


def test_another_zoo_has_another_record(trust_asked, trust_records):
    _, folder = trust_records
    [path] = folder.iterdir()
    damaged = folder / "damaged"
    damaged.mkdir()
    (damaged / path.name).write_text("{}")
    with pytest.raises(IntegrityError, match="Remove the file"):
        examine(trust_asked, damaged)
    (damaged / path.name).unlink()
    damaged.rmdir()
    changed = dict(trust_asked.zoos)
    changed["home"] = replace(changed["home"], digest="another")
    with pytest.raises(RuntimeError, match="measuring"):
        examine(replace(trust_asked, zoos=changed), folder, note=_stop)


def _stop(line, *_):
    raise RuntimeError(f"measuring: {line}")


def test_a_zoo_with_too_few_loras_is_refused(folders, asked):
    alone = replace(asked.suite, shifts={})
    with pytest.raises(DataError, match="at least 20 of each"):
        measure(replace(asked, suite=alone), "home", 0)


def test_zoos_of_the_collection_are_asked_about_what_is_there(folders):
    found = ask(TRUST, {"mine": folders["home"]})
    assert found.suite.zoos == ("mine",)
    assert "faces" in found.missing


def test_a_split_more_is_measured_alone(trust_asked, trust_records, tmp_path, monkeypatch):
    _, folder = trust_records
    shutil.copytree(folder, tmp_path / "records")
    monkeypatch.setattr("lorascope.bench.trust_exam.measure", _stop)
    said = []
    (record,) = examine(trust_asked, tmp_path / "records", note=said.append, splits=SPLITS + 1)
    assert said == [f"home, split {SPLITS}: outliers"]
    assert len(record["splits"]) == SPLITS + 1


def test_adapters_by_other_methods_are_of_the_exams_bases(trust_asked, monkeypatch):
    made = {"LoKr": None}
    asked_for = []

    def adapters(base, signature, rank, folder, *, note):
        asked_for.append((base, rank, folder.name))
        return made

    monkeypatch.setattr("lorascope.bench.trust_exam.adapters", adapters)
    home = read(trust_asked, "home")
    place = Path("records")
    exam = replace(trust_asked.zoos["home"], family="exam", base="exam-qwen")
    assert _by_other_methods(exam, home, place, print) == (made, {})
    assert asked_for == [("exam-qwen", home.data.batch.rank, "methods")]
    for other in (replace(exam, family="faces"), replace(exam, base="mine")):
        assert _by_other_methods(other, home, place, print) == ({}, {})

    def missing(*_, **__):
        raise MissingExtraError("peft", "zoo", "finetuning adapters")

    monkeypatch.setattr("lorascope.bench.trust_exam.adapters", missing)
    found, left_out = _by_other_methods(exam, home, place, print)
    assert not found
    assert "pip install 'lorascope[zoo]'" in left_out["adapters by other methods"]
