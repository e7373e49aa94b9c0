import json

import pytest

from lorascope.bench.results import (
    PLAN,
    RESULTS,
    Plan,
    Result,
    append_results,
    load_plan,
    load_results,
)
from lorascope.errors import FileError, IntegrityError
from tests.planted import TARGETS

ONE = Result("abc", "score", "svd", 0, metrics={"r2": 0.5, "spearman": None}, seconds=1.5)
TWO = Result("abc", "score", "mlp", 1, error="DataError: too large")


def test_results_come_back_as_they_were_recorded(tmp_path):
    append_results(tmp_path / "new", [ONE])
    append_results(tmp_path / "new", [TWO])
    assert load_results(tmp_path / "new") == [ONE, TWO]
    assert load_results(tmp_path / "nothing") == []


def test_a_line_that_a_kill_cut_off_is_dropped_and_written_over(tmp_path):
    append_results(tmp_path, [ONE, TWO])
    path = tmp_path / RESULTS
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert load_results(tmp_path) == [ONE]
    append_results(tmp_path, [TWO])
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    append_results(tmp_path, [ONE, TWO])
    path = tmp_path / RESULTS
    path.write_text("{" + path.read_text())
    with pytest.raises(IntegrityError, match="line 1"):
        load_results(tmp_path)


def test_keys_of_a_newer_version_are_left_out():
    data = json.loads(ONE.to_line()) | {"watts": 3}
    assert Result.from_json(data) == ONE


def test_the_key_of_a_run_is_its_data_target_model_seed_and_version():
    assert ONE.key == ("abc", "score", "svd", 0, "")
    assert ONE.key != Result("abc", "score", "svd", 0, versions={"lorascope": "9"}).key


def test_the_plan_comes_back(tmp_path):
    plan = Plan("zoo", {"score": "abc"}, 9, TARGETS, ("svd",), ("majority",), (0, 1))
    plan.save(tmp_path)
    assert load_plan(tmp_path) == plan
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]


def test_a_missing_and_a_damaged_plan_are_told_apart(tmp_path):
    with pytest.raises(FileError, match="bench run"):
        load_plan(tmp_path)
    (tmp_path / PLAN).write_text('{"source": "zoo"}')
    with pytest.raises(IntegrityError, match="damaged"):
        load_plan(tmp_path)
