import json
from dataclasses import replace

import pytest

from lorascope.bench.tasks import ZooFacts
from lorascope.bench.trust_exam import (
    CONTROL,
    DORA,
    PAIRS,
    SECOND,
    TRUST,
    examine,
    kind_of,
    measure,
)
from lorascope.bench.zoos import ask
from lorascope.errors import DataError, IntegrityError
from lorascope.train.outlier_exam import PASS


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


def test_outliers_have_a_row_of_each_kind(run):
    rows = {row["kind"]: row for row in run["outliers"]}
    assert set(PASS) < set(rows)
    assert rows["test"]["auroc"] == 0.5
    assert rows[CONTROL]["zoo"] == "home-control"
    assert rows[CONTROL]["auroc"] > 0.95
    assert rows[SECOND]["auroc"] < 0.7  # the planted second version differs in its value alone
    assert rows["trained at rank 2"]["count"] == 20


def test_side_tensors_decide_as_they_do_in_predict(run):
    rows = {row["kind"]: row for row in run["outliers"]}
    assert (rows[DORA]["auroc"], rows[DORA]["flagged"]) == (1.0, 1.0)
    assert rows[DORA + PAIRS]["flagged"] < 0.5
    assert CONTROL + PAIRS not in rows


def test_zoos_of_other_layers_are_left_out_with_the_reason(run):
    assert list(run["left_out"]) == ["home-conv"]
    assert "layer" in run["left_out"]["home-conv"]


def test_the_mixture_is_of_equal_parts(run):
    assert run["risk"]["parts"] == {"test": 40, SECOND: 40, CONTROL: 40}


def test_what_was_measured_is_not_measured_again(trust_asked, trust_records, tmp_path):
    records, folder = trust_records
    [path] = folder.iterdir()
    before = path.read_bytes()
    said = []
    assert examine(trust_asked, folder, note=said.append) == records
    assert said == ["home, seed 0: measured before"]
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


def _stop(line):
    raise RuntimeError(f"measuring: {line}")


def test_a_zoo_with_too_few_loras_is_refused(folders, asked):
    alone = replace(asked.suite, shifts={})
    with pytest.raises(DataError, match="at least 20 of each"):
        measure(replace(asked, suite=alone), "home", 0)


def test_zoos_of_the_collection_are_asked_about_what_is_there(folders):
    found = ask(TRUST, {"mine": folders["home"]})
    assert found.suite.zoos == ("mine",)
    assert "faces" in found.missing
