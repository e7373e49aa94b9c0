import numpy as np

from lorascope.bench.tasks import facts_of, tasks_of, without_answer
from lorascope.io import open_zoo
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


def test_facts_hold_what_a_report_needs(folders):
    facts = facts_of("home", folders["home"])
    assert facts.loras == 80
    assert facts.numbers == 3 * (12 + 10 + 6 + 10 + 12 + 10)
    assert facts.ceilings["score"] == {"r2": 0.98}
    assert facts.ceilings["learning_rate"] == {"r2": 1.0}
    assert facts.ceilings["dataset_size"] == {}
    assert facts.targets["score"]["base_value"] == BASE_VALUE
    assert facts.digest != facts_of("second", folders["home-second"]).digest
