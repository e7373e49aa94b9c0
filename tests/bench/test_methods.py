import pytest

from lorascope.bench.boosting import BOOSTING
from lorascope.bench.methods import DEFAULT, METHODS, TRIALS, controls
from lorascope.models.build import MODELS, model_options
from lorascope.train.controls import CONTROLS
from lorascope.train.settings import default_settings

OWN = {"gl_net (paper)": "gl_net"}


def test_every_model_and_control_has_a_row():
    assert {*MODELS, *CONTROLS, BOOSTING} <= set(METHODS)
    assert controls() == tuple(CONTROLS)
    assert DEFAULT in METHODS


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_has_as_many_trials_as_the_others(name):
    method = METHODS[name]
    assert len(method.trials) in ({1} if method.control else {1, 2, TRIALS})
    if len(method.trials) == 2:
        assert name in OWN
    assert len({repr(sorted(t.items())) for t in method.trials}) == len(method.trials)


@pytest.mark.parametrize("name", [n for n in METHODS if OWN.get(n, n) in MODELS])
def test_every_dial_exists(name):
    known = model_options(OWN.get(name, name))
    for trial in METHODS[name].trials:
        default_settings(name, **{k: v for k, v in trial.items() if k not in known})


def test_more_loras_and_larger_ones_cost_more():
    method = METHODS["fusion"]
    assert method.seconds(2000, 5376) > 2 * method.seconds(1000, 5376)
    assert METHODS["mlp"].seconds(1000, 10000) > METHODS["mlp"].seconds(1000, 5376)
