"""Names, folders and sha256 of all bundled bases go together."""

import json

import pytest

from lorascope.errors import FileError
from lorascope.zoo.bases import BASES, base_folder
from lorascope.zoo.bases.faces.folder import FACES
from lorascope.zoo.bases.names import BASE_DIGESTS, bundled_base, bundled_name
from lorascope.zoo.factory.recipe import base_digest


def test_every_bundled_base_has_its_digest():
    assert set(BASE_DIGESTS) == {*BASES, *FACES}


@pytest.mark.parametrize("name", BASE_DIGESTS)
def test_the_folder_of_a_name_is_the_base_that_recipes_record(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    folder = base_folder(name)
    assert bundled_name(folder.name) == name
    recorded = {"folder": folder.name, "sha256": base_digest(folder)}
    assert bundled_base(json.loads(json.dumps(recorded))) == name


@pytest.mark.parametrize(
    "other",
    ["my-base", "exam", "faces-second-c734", "faces-third-c734b450c14f", "", None],
)
def test_other_names_are_none(other):
    assert bundled_name(other) is None


def test_a_folder_that_only_bears_the_name_is_another_base():
    assert bundled_base({"folder": "exam-qwen", "sha256": "0" * 64}) is None
    assert bundled_base({"folder": "exam-qwen"}) is None
    assert bundled_base(None) is bundled_base("exam-qwen") is None


def test_an_unknown_name_is_refused():
    with pytest.raises(FileError, match=r"'mine'.*faces-control"):
        base_folder("mine")
