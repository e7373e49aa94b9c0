import pytest

from lorascope.errors import DataError
from lorascope.models.build import MODELS
from lorascope.train.settings import DEFAULTS, Settings, default_settings


def test_the_defaults_of_a_family_can_be_changed_and_none_changes_nothing():
    found = default_settings("gl_net", epochs=3, learning_rate=None)
    assert found.epochs == 3
    assert found.learning_rate == default_settings("gl_net").learning_rate


def test_every_family_with_defaults_is_a_model():
    assert set(DEFAULTS) <= set(MODELS)
    for name in DEFAULTS:
        default_settings(name)


def test_an_unknown_setting_is_refused():
    with pytest.raises(DataError, match="'speed'"):
        default_settings("mlp", speed=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"warmup": 1.0}, "warmup"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"dtype": "float8"}, "float8"),
    ],
)
def test_values_that_make_no_training_are_refused(changes, words):
    with pytest.raises(DataError, match=words):
        Settings(**changes)
