import shutil
from dataclasses import replace

import pytest

import lorascope.bench.schedule
from lorascope.bench.record import RUNS, append_run, load_runs
from lorascope.bench.schedule import other_code, run_suite
from lorascope.errors import DataError
from tests.bench.conftest import SUITE


def test_all_stages_are_run(finished):
    stages = {run.stage for run in finished.runs}
    assert stages == {"tune", "score", "sizes", "kinds"}
    scored = {(r.method, r.seed) for r in finished.runs if r.stage == "score"}
    assert scored == {(method, seed) for method in SUITE.methods for seed in SUITE.seeds}
    assert [run for run in finished.runs if run.error] == []


def test_a_finished_suite_runs_nothing_and_a_stopped_one_what_is_missing(
    finished, asked, tmp_path, monkeypatch
):
    made = []
    run_job = lorascope.bench.schedule.run_job

    def count(job, *given):
        made.append(job)
        return run_job(job, *given)

    monkeypatch.setattr(lorascope.bench.schedule, "run_job", count)
    lines = (finished.folder / RUNS).read_text().splitlines(keepends=True)
    (tmp_path / RUNS).write_text("".join(lines[:-2]) + lines[-2][:20])
    run_suite(asked, tmp_path, processes=1, progress=False)
    assert len(made) == 2
    assert {r.key for r in load_runs(tmp_path)} == {r.key for r in finished.runs}
    made.clear()
    run_suite(asked, tmp_path, processes=1, progress=True)
    assert made == []


def test_a_spent_budget_stops_and_keeps_what_had_ended(asked, tmp_path):
    with pytest.raises(DataError, match="budget"):
        run_suite(asked, tmp_path, processes=1, progress=False, budget_hours=0)
    assert len(load_runs(tmp_path)) == 1


@pytest.mark.parametrize("key", ["0" * 16, "f" * 16])
def test_stale_runs_cost_no_budget_and_are_not_returned(finished, asked, tmp_path, key):
    """Of a zoo before it grew, or a method before it changed: they stay in the record and count for nothing."""
    shutil.copy(finished.folder / RUNS, tmp_path / RUNS)
    stale = replace(finished.of("ridge", "tune"), key=key, all_seconds=1e9)
    append_run(tmp_path, stale)
    found = run_suite(asked, tmp_path, processes=1, progress=False, budget_hours=1)
    assert {run.key for run in found} == {run.key for run in finished.runs}
    assert stale in load_runs(tmp_path)


def test_a_record_that_other_code_began_is_named(finished, asked, tmp_path):
    shutil.copy(finished.folder / RUNS, tmp_path / RUNS)
    assert other_code(asked, tmp_path) == ""
    append_run(tmp_path, replace(finished.runs[0], code="other"))
    assert f"1 of its {len(finished.runs)} runs" in other_code(asked, tmp_path)


@pytest.mark.slow
def test_processes_give_the_same_scores(finished, asked, tmp_path):
    run_suite(asked, tmp_path, processes=2, progress=False)
    found = {run.key: run for run in load_runs(tmp_path)}
    for run in finished.runs:
        assert found[run.key].rows == run.rows
        for target, of in run.scores.get("test", {}).items():
            for metric, value in of.items():
                other = found[run.key].scores["test"][target][metric]
                assert value is None or other == pytest.approx(value, abs=1e-2)
