import os
from pathlib import Path

import pytest

from lorascope.cli.paths import adapters_in
from lorascope.errors import FileError


@pytest.fixture
def collection(tmp_path):
    for name in ("adapter-10", "adapter-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "single.safetensors").touch()
    (tmp_path / "deep" / "notes.txt").touch()
    return tmp_path


def names(collection, *paths):
    return [
        str(path.relative_to(collection)) for path in adapters_in([collection / p for p in paths])
    ]


def test_a_folder_of_adapters_is_walked_in_counting_order(collection):
    assert names(collection, ".") == ["adapter-2", "adapter-10", "deep/er/single.safetensors"]


def test_a_file_and_an_adapter_folder_stand_for_themselves(collection):
    inside = "adapter-2/adapter_model.safetensors"
    assert names(collection, inside, "adapter-10") == [inside, "adapter-10"]
    assert names(collection, "deep/notes.txt") == ["deep/notes.txt"]  # the reader says what it is


def test_a_pattern_is_expanded_and_each_adapter_comes_once(collection):
    assert names(collection, "adapter-*", "adapter-2") == ["adapter-2", "adapter-10"]
    assert names(collection, "**/*.safetensors")[-1] == "deep/er/single.safetensors"


def test_brackets_in_a_name_that_exists_are_no_pattern(collection):
    odd = collection / "lora[1].safetensors"
    odd.touch()
    assert adapters_in([odd]) == [odd]


def test_pickles_and_gguf_are_files_of_weights_and_states_of_training_are_not(collection):
    for name in ("a.gguf", "b.pt", "optimizer.bin", "scheduler.pt", "training_args.bin"):
        (collection / "deep" / name).touch()
    assert names(collection, "deep") == ["deep/a.gguf", "deep/b.pt", "deep/er/single.safetensors"]


@pytest.mark.parametrize(
    "name", ["a.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"]
)
def test_a_weight_file_at_the_top_hides_nothing_below(collection, name):
    (collection / name).touch()
    found = names(collection, ".")
    assert sorted(found) == sorted([name, "adapter-2", "adapter-10", "deep/er/single.safetensors"])
    (collection / "deep" / name).touch()
    assert f"deep/{name}" in names(collection, ".")
    assert "deep/er/single.safetensors" in names(collection, ".")


def test_two_adapters_under_known_names_are_two(tmp_path):
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        (tmp_path / name).touch()
    assert len(names(tmp_path, ".")) == 2


@pytest.mark.parametrize(
    "files",
    [
        ["pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"],
        ["pytorch_lora_weights.safetensors", "checkpoint-500/pytorch_lora_weights.safetensors"],
        ["pytorch_lora_weights.safetensors", "optimizer.bin", "notes.txt"],
        ["adapters.npz", "0000100_adapters.npz"],
        ["adapters.safetensors", "adapter_config.json", "0000100_adapters.safetensors"],
        ["adapter_model.bin", "adapter_config.json", "checkpoint-9/adapter_model.bin"],
        [
            "adapter_model.safetensors",
            "adapter_config.json",
            "other.safetensors",
            "x/b.safetensors",
        ],
    ],
)
def test_a_folder_in_the_layout_of_its_format_is_one_adapter(tmp_path, files):
    for file in files:
        (tmp_path / "mine" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / file).touch()
    assert names(tmp_path, "mine") == names(tmp_path, ".") == ["mine"]


def test_what_lies_below_the_one_adapter_that_was_asked_for_is_told(collection, capsys):
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (collection / name).touch()
    (collection / "checkpoint-1").mkdir()
    assert adapters_in([collection]) == [collection]
    said = capsys.readouterr().err
    assert said.startswith("Note: ")
    assert "'adapter-10', are not looked at. Try" in said
    adapters_in([collection, collection / "deep"])
    (collection / "adapter-2" / "adapter_config.json").touch()
    (collection / "adapter-2" / "checkpoint-1").mkdir()
    (collection / "adapter-2" / "checkpoint-1" / "adapter_model.safetensors").touch()
    adapters_in([collection / "adapter-2"])
    assert capsys.readouterr().err == ""


def test_hidden_files_are_looked_at_only_where_they_are_named(collection):
    before = names(collection, ".")
    for name in ("._a.safetensors", "deep/.tmp.safetensors", ".cache/a.safetensors"):
        (collection / name).parent.mkdir(exist_ok=True)
        (collection / name).touch()
    assert names(collection, ".") == before
    named = ["._a.safetensors", "deep/.tmp.safetensors", ".cache/a.safetensors"]
    assert names(collection, *named[:2], ".cache") == named


def test_a_folder_of_hidden_files_alone_says_so(tmp_path):
    (tmp_path / "._a.safetensors").touch()
    with pytest.raises(FileError, match="do not begin with a dot"):
        adapters_in([tmp_path])


def test_a_link_to_a_parent_does_not_loop(collection):
    (collection / "deep" / "up").symlink_to(collection, target_is_directory=True)
    assert len(adapters_in([collection])) == 3


def test_linked_folders_elsewhere_are_followed_once(collection, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk")
    (elsewhere / "far").mkdir()
    (elsewhere / "far" / "adapter_model.safetensors").touch()
    (elsewhere / "back").symlink_to(collection, target_is_directory=True)
    (elsewhere / "round").symlink_to(elsewhere, target_is_directory=True)
    for name in ("linked", "linked-again"):
        (collection / "deep" / name).symlink_to(elsewhere, target_is_directory=True)
    (collection / "same").symlink_to(collection / "adapter-2", target_is_directory=True)
    found = names(collection, ".")
    assert len(found) == 4
    assert sum(name.endswith("/far") for name in found) == 1


def test_a_link_into_a_folder_that_is_linked_as_a_whole_hides_nothing_and_adds_nothing(
    collection, tmp_path_factory
):
    fav = tmp_path_factory.mktemp("fav")
    (fav / "a-first").symlink_to(collection / "adapter-2", target_is_directory=True)
    (fav / "whole").symlink_to(collection, target_is_directory=True)
    found = adapters_in([fav])
    assert len(found) == len({path.resolve() for path in found}) == 3


@pytest.mark.parametrize(
    ("path", "said"),
    [("gone", "does not exist"), ("gone*", "matches"), ("empty", "found none below")],
)
def test_what_is_not_there_is_named(tmp_path, path, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=said):
        adapters_in([tmp_path / path])


def test_a_zoo_is_recognised(tmp_path):
    (tmp_path / "recipe.json").touch()
    with pytest.raises(FileError, match=r"is a zoo.*zoo info"):
        adapters_in([tmp_path])


def test_the_order_given_is_kept(collection):
    paths = [collection / "adapter-10", collection / "adapter-2"]
    assert adapters_in(paths) == paths
    assert adapters_in([]) == []
    assert isinstance(adapters_in(paths)[0], Path)


def test_mlx_folders_and_archives_are_found(collection):
    (collection / "mlx").mkdir()
    (collection / "mlx" / "adapters.npz").touch()
    (collection / "deep" / "single.npz").touch()
    assert names(collection, "mlx", "deep") == [
        "mlx",
        "deep/er/single.safetensors",
        "deep/single.npz",
    ]


def test_what_cannot_be_looked_into_stands_for_itself(collection, monkeypatch):
    (collection / "locked").mkdir()
    (collection / "waiting").mkdir()
    (collection / "waiting" / "adapter_config.json").touch()
    os.mkfifo(collection / "pipe")
    look = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "locked" and look(path, mode)
    )
    assert names(collection, ".")[-2:] == ["locked", "waiting"]
    assert names(collection, "waiting", "pipe", "locked") == ["waiting", "pipe", "locked"]
