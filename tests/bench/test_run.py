import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import lorascope.bench.run
from lorascope.bench.results import RESULTS, load_plan, load_results
from lorascope.bench.run import run_bench
from lorascope.errors import DataError
from lorascope.train.controls import CONTROLS
from lorascope.train.fit import fit
from tests.planted import planted
from tests.train.test_data import write_zoo

DATA = planted(80)
FEW = {"targets": ["score"], "models": ["svd", "kernel_raw"], "seeds": 2, "progress": False}


def same(results):
    """What must not depend on where or how fast a run was made."""
    return [replace(result, seconds=0.0) for result in results]


def test_every_model_and_control_is_run_on_every_target_with_every_seed(tmp_path):
    found = run_bench(DATA, tmp_path, models=["ridge"], seeds=[3, 5], processes=1, progress=False)
    assert {(r.target, r.model, r.seed) for r in found} == {
        (target, model, seed)
        for target in DATA.targets
        for model in ["ridge", *CONTROLS]
        for seed in (3, 5)
    }
    assert len(found) == 3 * 6 * 2
    assert all(r.control == (r.model in CONTROLS) for r in found)
    assert {r.key for r in load_results(tmp_path)} == {r.key for r in found}


def test_a_result_holds_what_fit_reports(tmp_path):
    found = run_bench(DATA, tmp_path, processes=1, **FEW)
    (result,) = (r for r in found if r.model == "svd" and r.seed == 1)
    report = fit(DATA, "score", model="svd", seed=1).report
    assert result.metrics == report["metrics"]["test"]
    assert result.validation == report["metrics"]["validation"]
    assert result.rows == report["rows"]
    assert result.parameters == report["parameters"]
    assert result.versions == report["versions"]


def test_seeds_change_the_split_and_all_models_of_a_seed_share_it(tmp_path):
    found = run_bench(DATA, tmp_path, processes=1, **FEW)
    sizes = {seed: {tuple(r.rows.values()) for r in found if r.seed == seed} for seed in (0, 1)}
    assert len(sizes[0]) == len(sizes[1]) == 1
    majority = [r.metrics["rmse"] for r in found if r.model == "majority"]
    assert majority[0] != majority[1]


def test_processes_give_the_same_results(tmp_path):
    alone = run_bench(DATA, tmp_path / "one", processes=1, **FEW)
    together = run_bench(DATA, tmp_path / "two", processes=2, **FEW)
    for a, b in zip(same(alone), same(together), strict=True):
        assert a.key == b.key
        for name, value in a.metrics.items():
            assert value is None or value == pytest.approx(b.metrics[name], rel=1e-3), name


def test_a_stopped_benchmark_goes_on_and_a_finished_one_runs_nothing(tmp_path, monkeypatch):
    whole = run_bench(DATA, tmp_path, processes=1, **FEW)
    path = tmp_path / RESULTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:10])
    made = []
    run_task = lorascope.bench.run.run_task

    def count(data, digests, task):
        made.append(task)
        return run_task(data, digests, task)

    monkeypatch.setattr(lorascope.bench.run, "run_task", count)
    again = run_bench(DATA, tmp_path, processes=1, **FEW)
    assert len(made) == len(whole) - 3
    assert same(again) == same(whole)
    made.clear()
    run_bench(DATA, tmp_path, processes=1, **FEW)
    assert made == []


def test_other_labels_are_other_runs_and_more_targets_keep_the_old_ones(tmp_path):
    few = FEW | {"seeds": 1}
    run_bench(DATA, tmp_path, processes=1, **few)
    before = len(load_results(tmp_path))
    run_bench(DATA, tmp_path, processes=1, **(few | {"targets": ["score", "kind"]}))
    assert len(load_results(tmp_path)) == 2 * before
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["score"][0] += 1
    run_bench(replace(DATA, labels=labels), tmp_path, processes=1, **few)
    assert len(load_results(tmp_path)) == 3 * before


def test_an_error_of_torch_is_recorded_too(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(lorascope.bench.run, "fit", fail)
    found = run_bench(DATA, tmp_path, processes=1, **FEW)
    errors = {result.error for result in found if not result.control}
    assert errors == {"_LinAlgError: did not converge"}
    assert {result.error for result in found if result.control} == {None}


def test_a_run_that_fails_is_recorded_with_its_reason_and_the_others_go_on(tmp_path):
    """Labels in one group only: the split leaves parts empty for each seed."""
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["kind"][3:] = np.nan
    data = replace(DATA, labels=labels)
    found = run_bench(
        data,
        tmp_path,
        targets=["score", "kind"],
        models=["ridge"],
        seeds=1,
        processes=1,
        progress=False,
    )
    for result in found:
        assert (result.error is None) == (result.target == "score")
        if result.error:
            assert "part is empty" in result.error


def test_the_control_that_needs_hyper_parameters_is_left_out_where_there_are_none(tmp_path):
    found = run_bench(replace(DATA, hyper={}), tmp_path, processes=1, **FEW)
    assert "hyper-parameters" not in {result.model for result in found}
    assert "hyper-parameters" not in load_plan(tmp_path).controls


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ["oracle"]}, "found the model 'oracle'"),
        ({"targets": ["clip_score"]}, "target 'clip_score'"),
        ({"seeds": 0}, "0 seeds"),
        ({"targets": []}, "0 targets"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        run_bench(DATA, tmp_path, **(FEW | changes))
    assert load_results(tmp_path) == []


def test_the_progress_bar_counts_the_runs(tmp_path, capsys):
    run_bench(DATA, tmp_path, processes=1, **(FEW | {"progress": True, "seeds": 1}))
    shown = capsys.readouterr()
    assert "7/7" in shown.err
    assert shown.out == ""


def test_a_worker_that_dies_is_an_error_and_keeps_what_had_ended(tmp_path):
    """A script from standard input cannot be started again by a worker."""
    code = (
        "from tests.planted import planted\n"
        "from lorascope.bench import run_bench\n"
        f"run_bench(planted(40), {str(tmp_path)!r}, models=['ridge'], processes=2, progress=False)\n"
    )
    found = subprocess.run(
        [sys.executable, "-"], input=code, text=True, capture_output=True, check=False
    )
    assert found.returncode == 1
    assert "TrainingError: Running a benchmark: a worker process ended" in found.stderr


def test_a_zoo_is_run_from_its_folder_with_the_ceilings_of_its_report(tmp_path):
    write_zoo(tmp_path / "zoo", count=60)
    found = run_bench(tmp_path / "zoo", tmp_path / "out", processes=1, **FEW)
    assert {result.error for result in found} == {None}
    assert "hyper-parameters" in {result.model for result in found}
    plan = load_plan(tmp_path / "out")
    assert plan.source == "zoo"
    assert plan.ceilings == {"score": {"r2": 0.9}}
