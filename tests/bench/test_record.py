from dataclasses import replace

import pytest

from lorascope.bench.record import RUNS, SUITE, append_run, load_asked, load_runs
from lorascope.errors import DataError, FileError, IntegrityError


def test_what_was_asked_comes_back_without_places(asked, tmp_path):
    asked.save(tmp_path)
    found = load_asked(tmp_path)
    assert found.suite == asked.suite
    assert found.digests == asked.digests
    assert found.terms == asked.terms
    assert all(facts.folder == "" for facts in found.zoos.values())


def test_runs_come_back_and_the_last_of_a_key_counts(finished, tmp_path):
    run = finished.of("ridge")
    append_run(tmp_path, run)
    append_run(tmp_path, replace(run, seconds=99.0))
    assert load_runs(tmp_path) == [replace(run, seconds=99.0)]


def test_a_line_that_was_cut_off_is_dropped(finished, tmp_path):
    run = finished.of("ridge")
    append_run(tmp_path, run)
    path = tmp_path / RUNS
    path.write_text(path.read_text() + run.to_line()[:50])
    assert load_runs(tmp_path) == [run]
    append_run(tmp_path, replace(run, key="other"))
    assert [r.key for r in load_runs(tmp_path)] == [run.key, "other"]


def test_damage_is_named(asked, tmp_path):
    with pytest.raises(FileError, match="bench run --suite"):
        load_asked(tmp_path)
    asked.save(tmp_path)
    (tmp_path / SUITE).write_text("{}")
    with pytest.raises(IntegrityError, match="damaged"):
        load_asked(tmp_path)
    (tmp_path / RUNS).write_text("no json\n")
    with pytest.raises(IntegrityError, match="line 1"):
        load_runs(tmp_path)
    assert load_runs(tmp_path / "nowhere") == []


def test_a_method_that_this_lorascope_has_not_is_named(asked, tmp_path):
    suite = replace(asked.suite, methods=(*asked.suite.methods, "oracle"))
    replace(asked, suite=suite).save(tmp_path)
    with pytest.raises(DataError, match="method 'oracle'"):
        load_asked(tmp_path)
