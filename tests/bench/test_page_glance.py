import math
from dataclasses import replace

import pytest

from lorascope.bench.page_glance import glance, tasks_of
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
    task = replace(task, paper=rival, ours=Estimate(0.85, 0.01, 3), ceiling=0.9)
    assert task.closed == pytest.approx(0.5)
    assert math.isnan(replace(task, ceiling=0.815).closed)
    assert replace(task, ceiling=None).closed is None


def test_two_standard_errors_behind_is_beaten(summary):
    task = replace(tasks_of(summary)[0], lead=Estimate(-0.03, 0.01, 3))
    assert task.beaten
    assert not replace(task, lead=Estimate(-0.03, 0.02, 3)).beaten


def test_the_order_of_the_record_does_not_matter(finished, summary):
    assert glance(Summary(finished.asked, finished.runs[::-1])) == glance(summary)
