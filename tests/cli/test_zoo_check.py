import json
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest
from tests.zoo.factory.exam_zoo import build_exam
from tests.zoo.factory.planted_zoo import write_planted


@pytest.fixture
def planted(tmp_path):
    return write_planted(tmp_path / "planted").path


def test_a_sound_zoo(run, planted):
    code, out, err = run("zoo", "verify", planted)
    assert (code, err) == (0, "")
    assert out.startswith("12 LoRAs in 3 shards, ")
    assert out.strip().endswith("sound")


def test_damage_is_named_and_ends_with_1(run, planted):
    (planted / "shards/shard-00001.parquet").unlink()
    code, out, err = run("zoo", "verify", planted)
    assert (code, err) == (1, "")
    assert "shards: shard-00001.parquet is missing" in out
    code, out, err = run("zoo", "verify", planted, "--json")
    facts = json.loads(out)
    assert (code, err) == (1, "")
    assert facts["schema"] == "lorascope.verify/1"
    assert facts["sound"] is False
    assert {"check": "shards", "place": "shard-00001.parquet", "message": "is missing"} in facts[
        "findings"
    ]


def test_many_findings_of_one_check_are_counted(run, planted, monkeypatch):
    monkeypatch.setattr("lorascope.cli.zoo_check.SHOWN", 2)
    path = planted / "index.parquet"
    index = pq.read_table(path)
    column = index.column_names.index("sha256")
    pq.write_table(index.set_column(column, "sha256", [["0" * 64] * len(index)]), path)
    code, out, _ = run("zoo", "verify", planted)
    assert code == 1
    findings = json.loads(run("zoo", "verify", planted, "--json")[1])["findings"]
    most = max(Counter(finding["check"] for finding in findings).items(), key=lambda item: item[1])
    assert most[1] > 2
    assert f"{most[0]}: {most[1] - 2} more of these, which --json lists" in out


def test_what_is_no_zoo_is_one_message(run, tmp_path):
    for words in (("verify", tmp_path), ("rebuild", tmp_path, 3)):
        code, out, err = run("zoo", *words)
        assert (code, out) == (2, "")
        assert err.startswith("Error: ")
        assert err.count("\n") == 1


def test_loras_of_no_family_cannot_be_rebuilt(run, planted):
    code, out, err = run("zoo", "rebuild", planted, 3)
    assert (code, out) == (2, "")
    assert "'planted'" in err


def test_a_device_that_is_not_there_is_one_message(run, planted):
    code, out, err = run("zoo", "rebuild", planted, 3, "--device", "abacus")
    assert (code, out) == (2, "")
    assert "'abacus'" in err


@pytest.mark.slow
def test_loras_are_rebuilt_and_written(run, tmp_path):
    zoo = build_exam(tmp_path / "zoo", 4)
    code, out, err = run("zoo", "rebuild", zoo.path, 0, 3, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["id", "0", "3"]
    assert (tmp_path / "out/3/adapter_config.json").is_file()
    code, out, _ = run("zoo", "rebuild", zoo.path, 2, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["schema"] == "lorascope.rebuild/1"
    assert facts["loras"][0]["verdict"] in ("same bytes", "close")
    assert facts["loras"][0]["labels"]["accuracy"]["stored"] == zoo.labels("accuracy")[2]
    other = shutil.copytree(zoo.path, tmp_path / "other")
    recipe = json.loads((other / "recipe.json").read_text())
    (other / "recipe.json").write_text(json.dumps(recipe | {"seed": 99}))
    code, out, _ = run("zoo", "rebuild", other, 2)
    assert code == 1
    assert "different" in out
