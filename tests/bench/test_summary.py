import math

import pytest

from lorascope.bench.summary import Summary, estimate, paired


@pytest.fixture(scope="module")
def summary(finished):
    return Summary(finished.asked, finished.runs)


def test_a_mean_and_its_standard_error():
    found = estimate({0: 1.0, 1: 2.0, 2: 3.0})
    assert found.mean == 2.0
    assert found.error == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(estimate({0: 1.0}).error)
    assert not estimate({}).known


def test_differences_are_paired_by_seed():
    found = paired({0: 1.0, 1: 5.0, 2: 9.0}, {0: 0.5, 1: 4.5, 7: 0.0})
    assert found.mean == 0.5
    assert found.error == 0.0
    assert found.seeds == 2


def test_scores_are_by_seed_and_directions_lead(summary):
    assert set(summary.scores("home", "fusion", "sources")) == {0, 1}
    assert summary.best("home", "sources") in ("fusion", "kernel_cosine")
    assert summary.compared("home")[:3] == list(summary.controls)
    assert summary.metric("home", "score") == "r2"


def test_ceilings_and_skill(summary):
    assert summary.ceiling("home", "score") == 0.98
    assert summary.ceiling("home", "dataset_size") is None
    skill = summary.skill("home", "fusion", "sources")
    own, constant = (summary.scores("home", n, "sources") for n in ("fusion", "majority"))
    assert skill == {seed: own[seed] - constant[seed] for seed in own}
    assert summary.kept("home", "fusion", "sources", "test") == pytest.approx(1.0)
    assert math.isnan(summary.kept("home", "majority", "sources", "home-second"))


def test_controls_that_are_not_beaten_are_named(summary):
    assert summary.lost_to("home", "fusion", "sources") == []
    assert "majority" in summary.lost_to("home", "mlp", "dataset_size")


def test_errors_of_sets_are_told(summary):
    assert "RankError" in summary.error("home", "mlp", "home-rank-5")
    assert summary.error("home", "fusion", "home-second") == ""
