from dataclasses import replace

import pytest

from lorascope.bench.stages import (
    STAGES,
    asked_runs,
    cost,
    expected_seconds,
    jobs_of,
    plan_lines,
    plan_text,
)
from lorascope.bench.terms import terms_of
from tests.bench.conftest import SUITE


def test_a_suite_before_its_start(asked):
    jobs = {stage: jobs_of(asked, stage, []) for stage in STAGES}
    assert len(jobs["tune"]) == 3 * SUITE.trials
    assert all(job.sets == ("validation",) and job.loras == 40 for job in jobs["tune"])
    assert len(jobs["score"]) == len(SUITE.methods) * 2
    assert {*SUITE.alterations, "home-second"} <= set(jobs["score"][0].sets)
    assert {job.loras for job in jobs["sizes"]} == {24}  # 1,000 are more than there are
    assert len(jobs["sizes"]) == (3 + SUITE.leaders) * 2
    assert {job.zoo for job in jobs["kinds"]} == {"home-conv"}


def test_longest_first(asked):
    costs = [cost(job, asked) for job in jobs_of(asked, "score", [])]
    assert costs == sorted(costs, reverse=True)


def test_the_plan_says_what_is_done_and_what_is_left(finished, asked):
    before, after = plan_lines(asked, []), plan_lines(asked, finished.runs)
    assert all(line.done == 0 and line.hours > 0 for line in before)
    assert all(line.done == line.runs and line.hours == 0 for line in after)
    assert "within the budget" in plan_text(asked, [], 12)
    assert "MORE THAN the budget" in plan_text(asked, [], 1e-6)


def test_wider_trials_and_trials_to_be_chosen_cost_more(asked):
    many = replace(asked.suite, methods=("majority", "w2t"), trials=4)
    wide = replace(asked, suite=many, terms=terms_of(many.methods))
    jobs = {repr(job.options): job for job in jobs_of(wide, "tune", [])}
    default = jobs.pop("{}")
    others = list(jobs.values())
    assert all(cost(job, wide) > 1.5 * cost(default, wide) for job in others)
    assert cost(default, wide) < cost(default, wide, tuned=False) < cost(others[0], wide)


def test_what_runs_took_corrects_what_is_expected(finished, asked):
    jobs = jobs_of(asked, "score", finished.runs)
    expected = expected_seconds(jobs, asked, finished.runs)
    took = sum(run.all_seconds for run in finished.runs if run.stage == "score")
    assert 0.2 * took < expected < 5 * took


@pytest.mark.parametrize("key", ["0" * 16, "f" * 16])
def test_runs_that_the_suite_does_not_ask_for_are_left_out(finished, asked, key):
    of = {stage: next(r for r in finished.runs if r.stage == stage) for stage in STAGES}
    stale = [replace(run, key=key[1:] + str(place)) for place, run in enumerate(of.values())]
    again = [*finished.runs, *stale]
    assert asked_runs(asked, again) == asked_runs(asked, finished.runs)
    assert {run.key for run in asked_runs(asked, again)} == {run.key for run in finished.runs}
    assert plan_text(asked, again, 12) == plan_text(asked, finished.runs, 12)
