from dataclasses import replace

import pytest

from lorascope.bench.page_losses import ahead, failed, places_of
from lorascope.bench.summary import Summary


def with_scores(
    finished, method, seed_scores, *, on="test", stage="score", loras=None, column="sources"
):
    """The suite where a method has other scores at one place, one for each seed."""
    runs = []
    for run in finished.runs:
        if (run.method, run.stage, run.loras) == (method, stage, loras) and on in run.scores:
            metric = "accuracy" if column == "sources" else "r2"
            own = {**run.scores[on], column: {metric: seed_scores[run.seed]}}
            run = replace(run, scores={**run.scores, on: own})
        runs.append(run)
    return Summary(finished.asked, runs)


def test_every_place_is_asked(finished):
    found = places_of(Summary(finished.asked, finished.runs))
    assert set(found) == {
        "in distribution",
        "other adapters",
        "other ranks, bases and DoRA",
        "fewer LoRAs",
    }
    shifts = {place.on for place in found["other ranks, bases and DoRA"]}
    assert {"home-rank-5", "home-second", "home-second (own base)", "home-control"} <= shifts


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({}, "| home: sources (accuracy) |"),
        ({"on": "home-second"}, "| home -> home-second: sources (accuracy) |"),
        ({"stage": "sizes", "loras": 24}, "| home, 24 LoRAs: sources (accuracy) |"),
        ({"stage": "kinds"}, "| home-conv: sources (accuracy) |"),
    ],
)
def test_whoever_is_ahead_of_the_default_is_named_with_its_difference(finished, where, told):
    """Also where another method is further ahead, and whether or not the lead is beyond the errors."""
    text = "\n".join(ahead(with_scores(finished, "norm only", {0: 1.9, 1: 1.9}, **where)))
    (row,) = [line for line in text.splitlines() if line.startswith(told)]
    assert "*norm only* **+" in row
    level = with_scores(finished, "norm only", {0: 9.0, 1: -6.0}, **where)
    (row,) = [line for line in "\n".join(ahead(level)).splitlines() if line.startswith(told)]
    assert "*norm only* +" in row


def test_changes_are_listed_only_where_they_are_another_question(finished):
    """Every method gives the same answer to what has no value of the base, however often it is asked."""
    runs = []
    for run in finished.runs:
        if run.method == "norm only" and run.stage == "score":
            best = {"sources": {"accuracy": 9.0}, "score": {"r2": 9.0}}
            scores = {
                name: {**of, **best} if name.startswith("home-second") else of
                for name, of in run.scores.items()
            }
            run = replace(run, scores=scores)
        runs.append(run)
    text = "\n".join(ahead(Summary(finished.asked, runs)))
    assert "| home -> home-second (own base): score (r2) |" in text
    assert "| home -> home-second: sources (accuracy) |" in text
    assert "| home -> home-second (own base): sources (accuracy) |" not in text


def test_what_the_default_wins_is_only_counted(finished):
    best = with_scores(finished, "fusion", {0: 9.0, 1: 9.0})
    text = "\n".join(ahead(best))
    assert "| home: sources (accuracy) |" not in text
    assert f"of {len(best.columns('home'))} tasks" in text


def test_what_does_not_reach_the_trivial_is_listed(finished):
    worst = with_scores(finished, "mlp", {0: -5.0, 1: -5.0}, column="score")
    (row,) = [line for line in failed(worst) if line.startswith("| mlp |")]
    majority, control = row.strip("| ").split(" | ")[1:]
    assert "home: score" in majority
    assert "home: score" not in control
    best = with_scores(finished, "mlp", {0: 5.0, 1: 5.0}, column="score")
    assert not any("mlp" in line and "home: score" in line for line in failed(best))


def test_the_order_of_the_record_does_not_matter(finished):
    first, again = (Summary(finished.asked, finished.runs[::step]) for step in (1, -1))
    assert ahead(first) == ahead(again)
    assert failed(first) == failed(again)
