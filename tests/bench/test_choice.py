from dataclasses import replace

from lorascope.bench.choice import (
    by_seed,
    chosen_trials,
    columns_of,
    leaders,
    option_key,
    trials_of,
)
from tests.bench.conftest import SUITE


def test_each_kind_of_target_takes_the_trial_of_smallest_validation_loss(finished):
    chosen = chosen_trials(finished.asked, "home", "ridge", finished.runs)
    assert set(chosen) == {"values", "classes"}
    runs = {
        option_key(r.options): r for r in finished.runs if (r.stage, r.method) == ("tune", "ridge")
    }
    assert len(runs) == 2

    def loss(run, kind):
        scores = run.scores["validation"]
        if kind == "classes":
            return scores["sources"]["log_loss"]
        found = ("score", "dataset_size", "learning_rate")
        return sum(min(1, 1 - scores[t]["r2"]) for t in found)

    for kind, options in chosen.items():
        losses = {key: loss(run, kind) for key, run in runs.items()}
        assert min(losses, key=losses.__getitem__) == option_key(options)


def test_the_first_trial_is_taken_where_nothing_was_tried(finished):
    chosen = chosen_trials(finished.asked, "home", "mlp", [])
    assert chosen == {"values": {}, "classes": {}}
    assert len(trials_of(finished.asked, "mlp")) == SUITE.trials


def test_a_target_that_cannot_be_learned_does_not_choose_for_the_others(finished):
    """One trial reads the score better, another fits less noise of a label without any signal."""
    first, second = trials_of(finished.asked, "ridge")

    def tuned(options, score, noise):
        of = {"score": {"r2": score}, "dataset_size": {"r2": noise}, "learning_rate": {"r2": 0.5}}
        return replace(finished.of("ridge", "tune"), options=options, scores={"validation": of})

    runs = [tuned(first, 0.9, -0.9), tuned(second, 0.7, -0.1)]
    assert chosen_trials(finished.asked, "home", "ridge", runs)["values"] == first


def test_scores_are_those_of_the_chosen_trial(finished):
    facts = finished.asked.zoos["home"]
    run = finished.of("ridge")
    chosen = {"values": run.options}
    found = by_seed([run], facts, "score", chosen=chosen)
    assert found == {0: run.scores["test"]["score"]["r2"]}
    assert by_seed([run], facts, "score", chosen={"values": {"values": 99}}) == {}


def test_targets_that_share_a_column_are_averaged(finished):
    facts = finished.asked.zoos["home"]
    named = {"face_width": facts.targets["score"], "skin_tone": facts.targets["score"]}
    many = replace(facts, targets=named)
    assert columns_of(many) == {"traits": ("face_width", "skin_tone")}
    run = replace(
        finished.of("ridge"),
        options={},
        scores={"test": {"face_width": {"r2": 0.5}, "skin_tone": {"r2": 0.7}}},
    )
    assert by_seed([run], many, "traits", chosen={"values": {}}) == {0: 0.6}


def test_leaders_have_the_smallest_mean_place(finished):
    found = leaders(finished.asked, "home", finished.runs)
    assert len(found) == 2
    assert "fusion" in found
    assert "majority" not in found
