import json
from dataclasses import replace

import numpy as np
import pytest

from lorascope.bench import jobs
from lorascope.bench.answers import Answers
from lorascope.bench.jobs import OWN_BASE, Job, Run, assignment, changes, run_job, thinned
from lorascope.bench.methods import METHODS
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


@pytest.mark.parametrize("method", list(METHODS))
def test_all_methods_are_given_the_same(asked, method):
    """A model that reads the batch size of its training LoRAs would know more than the others."""
    job = Job("score", "home", method, 0, sets=("test", "gauge", "home-second"))
    many = replace(asked, suite=replace(asked.suite, methods=tuple(METHODS)))
    given, _ = assignment(job, many.folders)
    for data in (given.data, *given.sets.values()):
        assert ("batch_size" in data.hyper) == (method == "hyper-parameters")
        assert method == "hyper-parameters" or data.hyper == {}


def test_the_default_is_not_moved_by_a_hyper_parameter(asked, monkeypatch):
    """The same predictions whatever the batch sizes were."""
    job = Job("score", "home", "fusion", 0, sets=("test",))
    first = run_job(job, asked.folders, asked.digests, asked.terms)
    load = jobs._load

    def shuffled(name, folder):
        loaded = load(name, folder)
        hyper = {key: values[::-1].copy() for key, values in loaded.data.hyper.items()}
        return replace(loaded, data=replace(loaded.data, hyper=hyper))

    monkeypatch.setattr(jobs, "_load", shuffled)
    assert run_job(job, asked.folders, asked.digests, asked.terms).scores == first.scores


def test_groups_that_were_learned_from_are_not_tested_elsewhere(asked, finished):
    job = Job("score", "home", "ridge", 0, sets=("home-second", "home-rank-5"))
    given, _ = assignment(job, asked.folders)
    learned = {given.data.groups[row] for row in (*given.split.train, *given.split.validation)}
    assert learned & {f"pair-{group}" for group in range(4)}
    assert not learned & set(given.sets["home-second"].groups)
    assert len(given.sets["home-rank-5"]) == 12  # other groups
    rows = finished.of("ridge").rows
    assert rows["home-second"] == len(given.sets["home-second"]) < 20


def test_a_set_of_which_nothing_is_left_has_no_scores(asked, monkeypatch):
    job = Job("score", "home", "ridge", 0, sets=("test", "home-second"))
    monkeypatch.setattr(jobs, "unlearned", lambda other, *rest: other.select(np.arange(0)))
    run = run_job(job, asked.folders, asked.digests, asked.terms)
    assert set(run.scores) == {"test"}
    assert run.rows["home-second"] == 0


def test_what_writing_otherwise_does_to_single_predictions(finished):
    """A score may stay while predictions move: both are kept."""
    fusion, mlp = finished.of("fusion").changes, finished.of("mlp").changes
    assert set(fusion) == {"gauge", "bf16", "fp16", "int8"}
    assert set(fusion["gauge"]) == {"sources", "score", "dataset_size", "learning_rate"}
    assert max(fusion["gauge"].values()) < 1e-5
    assert 1e-5 < max(fusion["int8"].values()) < 1
    assert max(mlp["gauge"].values()) > 1e-2


def test_changes_are_in_deviations_of_the_label_or_in_probability(asked):
    job = Job("score", "home", "ridge", 0, sets=("test", "gauge"))
    given, _ = assignment(job, asked.folders)
    plain = {"score": np.zeros((3, 1)), "sources": np.zeros((3, 3))}
    moved = {"score": np.full((3, 1), 2.0), "sources": np.full((3, 3), 0.25)}
    found = changes(given, Answers({"test": plain, "gauge": moved}))["gauge"]
    spread = np.nanstd(given.data.labels["score"][given.split.train])
    assert found == {"score": pytest.approx(2 / spread, rel=1e-2), "sources": 0.25}


def test_the_size_of_what_a_predictor_keeps_is_recorded(finished):
    assert finished.of("majority").stored == 0
    assert finished.of("kernel_cosine").parameters == 0
    assert finished.of("kernel_cosine").stored > 4 * 50 * 3 * (12 + 10)  # factors of training LoRAs
    assert finished.of("mlp").stored >= 4 * finished.of("mlp").parameters


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
    of = given.sets["home-second"]
    values = of.labels["score"][:, 0] + other["score"]
    mean = np.nanmean(given.data.labels["score"][given.split.train])
    for name, base in (("home-second", first), ("home-second" + OWN_BASE, other)):
        expected = np.sqrt(np.nanmean(np.square(values - base["score"] - mean)))
        assert close(run.scores[name]["score"]["rmse"], expected)
    assert "test" + OWN_BASE not in run.scores
