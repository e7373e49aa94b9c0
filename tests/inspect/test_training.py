import json
import math

import pytest

from lorascope.inspect.training import UNTOLD, number_of, training_of
from tests.inspect.files import METADATA


def test_metadata_of_a_trainer_is_read():
    found = training_of(METADATA)
    assert found.facts["dim"] == 4
    assert found.facts["alpha"] == 2
    assert found.facts["learning_rate"] == 1e-4
    assert found.facts["title"] == "my-dog"
    assert found.facts["base_version"] == "sd_v1"
    assert found.trigger_words == ("sks dog", "best dog")
    assert found.tags == (("dog", 20), ("grass", 7))


def test_class_tokens_of_datasets_are_trigger_words():
    datasets = [{"subsets": [{"class_tokens": "ohwx man"}, {"class_tokens": None}, 3]}]
    assert training_of({"ss_datasets": json.dumps(datasets)}).trigger_words == ("ohwx man",)


def test_pefts_configuration_is_read():
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "task_type": None}
    assert training_of(config).facts == {"network": "LORA", "dim": 8, "alpha": 16, "dropout": 0.1}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"ss_tag_frequency": "[" * 100_000},
        {"ss_tag_frequency": "{nonsense"},
        {"ss_tag_frequency": '{"a": {"b": "c", "d": -1, "e": 1e300}, "f": 3}'},
        {"ss_datasets": '{"a": [[[1]]]}'},
        {"ss_network_dim": "None", "ss_seed": ""},
        {"modelspec.trigger_phrase": " , "},
        {"r": [1], "lora_alpha": {"a": 1}},
    ],
)
def test_metadata_of_any_form_tells_nothing_and_breaks_nothing(config):
    assert training_of(config) == UNTOLD


def test_long_text_is_cut():
    assert len(training_of({"modelspec.title": "x" * 10_000}).facts["title"]) == 500


def test_numbers_are_finite_or_none():
    assert number_of("1e-4") == 1e-4
    assert number_of("8.0") == 8
    assert [number_of(text) for text in ("nan", "inf", "1e999", "x", None, [1])] == [None] * 6
    assert training_of({"lora_alpha": math.inf}).facts == {"alpha": "inf"}
