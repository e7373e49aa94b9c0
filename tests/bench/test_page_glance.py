import math
from dataclasses import replace

import pytest

from lorascope.bench.page_glance import glance, homes, tasks_of, verdict
from lorascope.bench.summary import Estimate, Summary


@pytest.fixture(scope="module")
def summary(finished):
    return Summary(finished.asked, finished.runs)


def test_a_row_for_each_task_names_the_best_of_each_side(summary):
    lines = glance(summary)
    assert len(lines) == 2 + len(summary.columns("home")) + 1
    assert "| mlp " in lines[2]  # the only one of the paper's here
    assert "%" in lines[2]


def test_the_share_of_the_gap_is_what_is_won_of_what_could_be(summary):
    task = tasks_of(summary)[0]
    rival = replace(task.paper, found=Estimate(0.8, 0.01, 3))
    task = replace(task, paper=rival, ours=Estimate(0.85, 0.01, 3), ceiling=0.9, above=False)
    assert task.closed == pytest.approx(0.5)
    assert math.isnan(replace(task, ceiling=0.815).closed)
    assert replace(task, ceiling=None).closed is None


def test_a_ceiling_that_any_method_exceeds_bounds_nothing(finished):
    """Whoever it is: what the halves of an exam share can be learned."""
    low = replace(finished.asked.zoos["home"], ceilings={"score": {"r2": 0.02}})
    asked = replace(finished.asked, zoos={**finished.asked.zoos, "home": low})
    task = next(t for t in tasks_of(Summary(asked, finished.runs)) if t.column == "score")
    assert task.above
    assert task.closed is None
    row = next(line for line in glance(Summary(asked, finished.runs)) if "score" in line)
    assert "| above the ceiling |" in row
    high = next(t for t in tasks_of(Summary(finished.asked, finished.runs)) if t.column == "score")
    assert not high.above
    assert high.ceiling_cell == "0.980 ±.012"


def test_two_standard_errors_behind_any_method_is_beaten(summary):
    """Also behind one whose mean is not the best: it may be steadier."""
    task = tasks_of(summary)[0]
    leads = {name: Estimate(0.0, 0.1, 3) for name in task.leads}
    assert replace(task, leads=leads).beaten_by == ()
    leads |= {"norm only": Estimate(-0.03, 0.01, 3), task.other.name: Estimate(-0.05, 0.1, 3)}
    beaten = replace(task, leads=leads)
    assert beaten.beaten_by == ("norm only",)
    assert "on 1 of the 2 tasks" in verdict([beaten, replace(task, leads={})])
    assert "by norm only" in verdict([beaten])
    assert "on none of the 1 tasks" in verdict([replace(task, leads={})])


def test_all_methods_are_compared_with_the_default(summary):
    for task in tasks_of(summary):
        assert set(task.leads) == set(summary.asked.suite.methods) - {"fusion"}
        assert task.lead == task.leads[task.other.name]


def test_zoos_of_other_adapters_have_a_table_with_the_same_columns(summary):
    first, others = glance(summary), glance(summary, kinds=True)
    assert others[0] == first[0]
    assert len(others) == 2 + len(summary.columns("home-conv")) + 1
    assert others[2].startswith("| home-conv: ")
    assert [place.stage for place in homes(summary, kinds=True)] == ["kinds"]
    assert all(task.ours.known and task.leads for task in tasks_of(summary, kinds=True))


def test_the_order_of_the_record_does_not_matter(finished, summary):
    assert glance(Summary(finished.asked, finished.runs[::-1])) == glance(summary)
