from dataclasses import replace

import pytest

from lorascope.errors import FileError
from lorascope.zoo.bases.hub import OnHub, fetch

WANTED = OnHub("owner/a-model", ("*.json",), licence="accept the licence")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub and a Hub that nobody answers for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "hub"


def write_snapshot(cache, revision, text, owner="owner"):
    folder = cache / f"models--{owner}--a-model"
    (folder / "snapshots" / revision).mkdir(parents=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "snapshots" / revision / "config.json").write_text(text)


def test_what_is_in_the_cache_is_linked_by_its_name(cache, tmp_path):
    write_snapshot(cache, "a" * 40, "first")
    found = fetch(WANTED)
    assert found == tmp_path / "home" / "bases" / ("a" * 12) / "a-model"
    assert (found / "config.json").read_text() == "first"
    assert fetch(WANTED) == found
    write_snapshot(cache, "b" * 40, "second")
    assert (fetch(WANTED) / "config.json").read_text() == "second"
    assert (found / "config.json").read_text() == "first"  # what a build still uses
    assert [path.name for path in found.parent.iterdir()] == ["a-model"]


def test_two_models_of_one_name_are_two(cache):
    write_snapshot(cache, "a" * 40, "one's")
    write_snapshot(cache, "b" * 40, "another's", owner="another")
    found = fetch(WANTED)
    other = fetch(replace(WANTED, name="another/a-model"))
    assert found.name == other.name == "a-model"
    assert [(each / "config.json").read_text() for each in (found, other)] == ["one's", "another's"]


def test_what_is_nowhere_is_said(cache):
    with pytest.raises(FileError) as caught:
        fetch(WANTED)
    said = str(caught.value)
    assert "fetching the model owner/a-model from the Hub" in said
    assert "Try accept the licence, then 'hf download owner/a-model --local-dir FOLDER'" in said
    data = OnHub("owner/questions", ("*",), "dataset")
    with pytest.raises(FileError, match="--repo-type dataset"):
        fetch(data)
