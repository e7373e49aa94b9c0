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
    assert len(method.trials) in ({1} if method.control else {1, TRIALS})


@pytest.mark.parametrize("name", [n for n in METHODS if OWN.get(n, n) in MODELS])
def test_no_trial_repeats_another(name):
    """With the defaults of the model and of its training filled in: a dial may be its own default."""
    of, options = OWN.get(name, name), model_options(OWN.get(name, name))
    resolved = []
    for trial in METHODS[name].trials:
        settings = default_settings(of, **{k: v for k, v in trial.items() if k not in options})
        dials = options | {k: v for k, v in trial.items() if k in options}
        resolved.append(repr(sorted((settings.to_json() | dials).items())))
    assert len(set(resolved)) == len(resolved)


def test_the_first_trial_is_the_default():
    assert {m.trials[0] == {} for name, m in METHODS.items() if name not in OWN} == {True}


def test_the_paper_stands_with_all_four_of_its_settings():
    """Its code has others for attributes, language models, CLIP scores and Imagenette."""
    heads = [
        (trial.get("product", "full"), trial["width"], trial["hidden"], trial.get("epochs"))
        for trial in METHODS["gl_net (paper)"].trials
    ]
    assert heads == [
        ("full", 64, 16, 12),
        ("full", 16, 256, None),
        ("mean", 16, 64, 3),
        ("full", 64, 128, 3),
    ]


def test_only_the_control_reads_hyper_parameters():
    assert [n for n, m in METHODS.items() if m.reads_hyper] == ["hyper-parameters"]


@pytest.mark.parametrize("name", [n for n in METHODS if OWN.get(n, n) in MODELS])
def test_every_dial_exists(name):
    known = model_options(OWN.get(name, name))
    for trial in METHODS[name].trials:
        default_settings(OWN.get(name, name), **{k: v for k, v in trial.items() if k not in known})


def test_more_loras_and_larger_ones_cost_more():
    method = METHODS["fusion"]
    assert method.seconds(2000, 5376) > 2 * method.seconds(1000, 5376)
    assert METHODS["mlp"].seconds(1000, 10000) > METHODS["mlp"].seconds(1000, 5376)


def test_wider_trials_cost_more():
    method = METHODS["w2t"]
    wide = {"width": 128, "sizes": True}
    assert method.factor(wide) > method.factor({}) == 1.0
    assert method.factor({"width": 7}) == 1.0
    assert 1.0 < method.mean_factor < method.factor(wide)
    assert method.mean_seconds(1000, 5376) == method.seconds(1000, 5376) * method.mean_factor
    for method in METHODS.values():
        assert len(method.factors) in (0, len(method.trials))
