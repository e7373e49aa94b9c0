import json
from dataclasses import replace

import numpy as np

from lorascope.bench.jobs import OWN_BASE, Job, Run, assignment, run_job, thinned
from lorascope.bench.tasks import base_values, tasks_of
from lorascope.bench.terms import source_digest
from lorascope.io import open_zoo
from lorascope.train.fit import default_split, fit
from tests.bench.conftest import close
from tests.planted import planted


def test_a_run_scores_what_fit_would(asked, folders):
    job = Job("score", "home", "kernel_cosine", 1, sets=("validation", "test"))
    run = run_job(job, asked.folders, asked.digests, asked.terms)
    data = tasks_of(open_zoo(folders["home"]))
    report = fit(data, "score", model="kernel_cosine", seed=1).report["metrics"]
    assert close(run.scores["test"]["score"]["r2"], report["test"]["r2"])
    assert close(run.scores["validation"]["score"]["rmse"], report["validation"]["rmse"])
    assert run.error is None
    assert run.code == source_digest()
    assert run.rows["train"] + run.rows["validation"] + run.rows["test"] == 80
    assert Run.from_json(json.loads(run.to_line())) == run


def test_other_zoos_and_writings_are_scored_and_refusals_named(finished):
    run = finished.of("mlp")
    assert {"test", "gauge", "int8", "home-second"} <= set(run.scores)
    assert "RankError" in run.errors["home-rank-5"]
    assert "SignatureError" in run.errors["home-control"]
    assert set(finished.of("kernel_cosine").scores) >= {"home-rank-5", "home-second"}


def test_an_error_becomes_part_of_the_run(asked):
    job = Job("score", "home", "ridge", 0, {"choose_by": "luck"}, sets=("test",))
    run = run_job(job, asked.folders, asked.digests, asked.terms)
    assert run.error is not None
    assert run.scores == {}


def test_a_run_is_named_by_all_that_it_depends_on(asked):
    job = Job("score", "home", "mlp", 0, sets=("test", "home-second"))
    names = {
        asked.key(job),
        asked.key(replace(job, seed=1)),
        asked.key(replace(job, options={"hidden": 8})),
        asked.key(replace(job, loras=20)),
        asked.key(replace(job, sets=("test",))),
        job.key(asked.digests | {"home-second": "other"}, asked.terms),
        job.key(asked.digests, replace(asked.terms, version="9")),
        job.key(asked.digests, replace(asked.terms, protocol=99)),
    }
    assert len(names) == 8
    assert job.key(asked.digests | {"home-conv": "other"}, asked.terms) == asked.key(job)


def test_a_changed_method_is_run_again(asked):
    job = Job("score", "home", "ridge", 0)
    raised = asked.terms.revisions | {"ridge": asked.terms.revisions["ridge"] + 1}
    later = replace(asked, terms=replace(asked.terms, revisions=raised))
    assert later.key(job) != asked.key(job)
    other = replace(job, method="mlp")
    assert later.key(other) == asked.key(other)


def test_fewer_loras_are_among_the_more():
    data = planted(80)
    split = default_split(data, 0)
    few, more = (thinned(data, split, count, 0) for count in (16, 40))
    assert len(few.train) == 14
    assert len(few.validation) == 2
    assert set(few.train) <= set(more.train) <= set(split.train)
    np.testing.assert_array_equal(few.test, split.test)
    assert len(thinned(data, split, 1000, 0).train) == len(split.train)


def test_scores_of_another_base_are_values_and_beside_them_changes(asked, folders):
    """The value is the predicted change plus the value of the base that was learned from."""
    job = Job("score", "home", "majority", 0, sets=("test", "home-second"))
    given, moves = assignment(job, asked.folders)
    first, other = (base_values(open_zoo(folders[name])) for name in ("home", "home-second"))
    assert moves == {"home-second": {"score": other["score"] - first["score"]}}
    assert moves["home-second"]["score"] != 0
    run = run_job(job, asked.folders, asked.digests, asked.terms)
    zoo = open_zoo(folders["home-second"])
    values = np.asarray(zoo.labels("score"), dtype=np.float64)
    mean = np.nanmean(given.data.labels["score"][given.split.train])
    for name, base in (("home-second", first), ("home-second" + OWN_BASE, other)):
        expected = np.sqrt(np.nanmean(np.square(values - base["score"] - mean)))
        assert close(run.scores[name]["score"]["rmse"], expected)
    assert "test" + OWN_BASE not in run.scores
