from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from lorascope.bench.tasks import (
    facts_of,
    same_groups,
    tasks_of,
    unlearned,
    without_answer,
    without_hyper,
)
from lorascope.io import open_zoo
from lorascope.train.fit import default_split
from tests.bench.conftest import BASE_VALUE


def test_scores_are_the_change_against_the_base(folders):
    zoo = open_zoo(folders["home"])
    data = tasks_of(zoo)
    raw = zoo.labels("score").astype(float)
    known = np.isfinite(raw)
    np.testing.assert_allclose(data.labels["score"][known, 0], raw[known] - BASE_VALUE)
    assert np.isnan(data.labels["score"][~known]).all()
    assert (~known).sum() == 1


def test_hyper_parameters_that_vary_are_targets(folders):
    data = tasks_of(open_zoo(folders["home"]))
    assert "steps" not in data.targets  # it never varies here
    np.testing.assert_allclose(
        data.labels["learning_rate"][:, 0], np.log10(data.hyper["learning_rate"])
    )


def test_the_answer_is_kept_from_the_control(folders):
    data = tasks_of(open_zoo(folders["home"]))
    assert "images" not in without_answer(data, "dataset_size").hyper
    assert "learning_rate" not in without_answer(data, "learning_rate").hyper
    assert without_answer(data, "score").hyper.keys() == data.hyper.keys()


def test_weights_groups_and_labels_are_all_that_is_left(folders):
    data = tasks_of(open_zoo(folders["home"]))
    assert "batch_size" in data.hyper
    bare = without_hyper(data)
    assert bare.hyper == {}
    assert (bare.batch, bare.labels, bare.groups) == (data.batch, data.labels, data.groups)


def test_sets_of_sources_are_the_same_in_every_zoo_and_drawn_people_are_not():
    def zoo(family, seed):
        return SimpleNamespace(recipe={"family": family, "seed": seed})

    assert same_groups(zoo("exam", 1), zoo("exam", 3))
    assert not same_groups(zoo("faces", 0), zoo("faces", 1))
    assert same_groups(zoo("faces", 0), zoo("faces", 0))
    assert not same_groups(zoo("faces", 0), zoo("objects", 0))


def test_loras_of_a_group_that_was_learned_from_are_left_out(folders):
    data, other = (tasks_of(open_zoo(folders[name])) for name in ("home", "home-second"))
    for seed in range(3):
        split = default_split(data, seed)
        learned = {data.groups[row] for row in (*split.train, *split.validation)}
        rest = unlearned(other, data, split)
        assert list(rest.groups) == [group for group in other.groups if group not in learned]
        assert len(rest) < len(other) == 20
        assert len(rest.labels["score"]) == len(rest)
    assert unlearned(replace(other, groups=None), data, split).groups is None


def test_facts_hold_what_a_report_needs(folders):
    facts = facts_of("home", folders["home"])
    assert facts.loras == 80
    assert facts.numbers == 3 * (12 + 10 + 6 + 10 + 12 + 10)
    assert facts.ceilings["score"] == {"r2": 0.98, "r2_se": 0.012}
    assert facts.ceilings["learning_rate"] == {"r2": 1.0}
    assert facts.ceilings["dataset_size"] == {}
    assert facts.targets["score"]["base_value"] == BASE_VALUE
    assert facts.digest != facts_of("second", folders["home-second"]).digest
