import math
from dataclasses import replace

import pytest

from lorascope.bench.summary import Place, Summary, estimate, paired


@pytest.fixture(scope="module")
def summary(finished):
    return Summary(finished.asked, finished.runs)


def test_a_mean_and_its_standard_error():
    found = estimate({0: 1.0, 1: 2.0, 2: 3.0})
    assert found.mean == 2.0
    # of one, corrected for splits that share rows: n_test / n_train is 20 / 70
    assert found.error == pytest.approx(math.sqrt(1 / 3 + 2 / 7))
    assert found.error / math.sqrt(1 / 3) == pytest.approx(1.363, abs=1e-3)
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
    assert summary.ceiling_error("home", "score") == 0.012
    assert math.isnan(summary.ceiling_error("home", "sources"))
    assert summary.ceiling("home", "dataset_size") is None
    skill = summary.skill("home", "fusion", "sources")
    own, constant = (summary.scores("home", n, "sources") for n in ("fusion", "majority"))
    assert skill == {seed: own[seed] - constant[seed] for seed in own}
    assert summary.kept("home", "fusion", "sources", "test") == pytest.approx(1.0)
    assert math.isnan(summary.kept("home", "majority", "sources", "home-second"))


def test_controls_that_are_not_beaten_are_named(summary):
    assert summary.lost_to("home", "fusion", "sources") == []
    assert "majority" in summary.lost_to("home", "mlp", "dataset_size")


def test_a_gain_within_the_corrected_error_does_not_beat_a_control(finished):
    """.055 of two seeds lies above deviation / sqrt(seeds), .045, and below the corrected .056."""
    runs = []
    for run in finished.runs:
        if (run.stage, run.method) in {("score", "ridge"), ("score", "majority")}:
            gain = {0: 0.1, 1: 0.01}[run.seed] if run.method == "ridge" else 0.0
            run = replace(run, scores={"test": {"score": {"r2": gain}}}, options={})
        runs.append(run)
    summary = Summary(finished.asked, [run for run in runs if run.stage != "tune"])
    assert "majority" in summary.lost_to("home", "ridge", "score")


def test_the_default_leads_by_the_difference_that_is_better(summary):
    place = Place("home")
    ours, theirs = (summary.scores("home", n, "sources") for n in ("fusion", "mlp"))
    lead = summary.lead(place, "sources", "mlp")
    assert lead.mean == pytest.approx(sum(ours.values()) / 2 - sum(theirs.values()) / 2)
    assert summary.lead(Place("home-conv", stage="kinds"), "sources", "majority").seeds == 2


def test_how_many_loras_of_another_zoo_were_tested(summary, finished):
    counts = [finished.of("ridge", seed=seed).rows["home-second"] for seed in (0, 1)]
    assert summary.tested("home", "home-second") == (min(counts), max(counts))
    assert summary.tested("home", "home-rank-5") == (12, 12)
    assert summary.tested("home", "nowhere") is None


def test_errors_of_sets_are_told(summary):
    assert "RankError" in summary.error("home", "mlp", "home-rank-5")
    assert summary.error("home", "fusion", "home-second") == ""
