"""What a folder holds; the rules in full are tests/cli/test_paths.py, which goes the same way."""

import pytest

from lorascope.io.adapters import adapters_of, is_adapter, is_step, walk


@pytest.fixture
def folder(tmp_path):
    for name in ("a/adapter_config.json", "a/adapter_model.safetensors", "b/x.gguf", ".c/y.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_configuration_and_weights_are_one_adapter(folder):
    assert is_adapter(folder / "a")
    assert adapters_of(folder / "a") == [folder / "a"]
    assert not is_adapter(folder / "b")


def test_many_are_found_below_and_what_is_hidden_is_passed_over(folder):
    assert list(walk(folder)) == adapters_of(folder) == [folder / "a", folder / "b" / "x.gguf"]


def test_earlier_steps_of_a_training_are_known_by_their_names(folder):
    assert is_step(folder, folder / "checkpoint-10" / "adapter_model.safetensors")
    assert is_step(folder, folder / "0000100_adapters.safetensors")
    assert not is_step(folder, folder / "a" / "adapter_model.safetensors")
