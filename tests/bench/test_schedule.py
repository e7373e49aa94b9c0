import pytest

import lorascope.bench.schedule
from lorascope.bench.record import RUNS, load_runs
from lorascope.bench.schedule import run_suite
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

    def count(job, folders, digests):
        made.append(job)
        return run_job(job, folders, digests)

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
