import json
from dataclasses import replace

import pytest

from lorascope.bench.stages import plan_text
from lorascope.bench.suites import suite_of
from lorascope.bench.zoos import (
    ask,
    build_zoos,
    built_zoos,
    collection_name,
    find_zoos,
    planned,
)
from lorascope.errors import DataError, FileError
from lorascope.zoo.families.collection import COLLECTION
from tests.bench.conftest import SUITE


@pytest.mark.parametrize("name", list(COLLECTION))
def test_a_zoo_of_the_collection_is_known_by_its_recipe(name):
    zoo = COLLECTION[name]
    family = zoo.family()
    recipe = {
        "family": family.name,
        "seed": family.seed,
        "base": {"folder": family.base_folder.name},
        "adapters": family.spec.plain(),
    }
    assert collection_name(json.loads(json.dumps(recipe))) == name
    assert collection_name(recipe | {"seed": 99}) is None


def test_a_folder_of_zoos_stands_for_all_in_it(folders):
    parent = folders["home"].parent
    assert set(find_zoos([parent])) == set(folders)
    assert find_zoos([folders["home"]]) == {"home": folders["home"]}
    with pytest.raises(FileError, match="there is none"):
        find_zoos([parent / "nothing"])


def test_a_suite_is_cut_down_to_what_is_there(folders):
    own = {"mine": folders["home"], "faces-second": folders["home-second"]}
    suite = replace(suite_of("full"), methods=("ridge",))
    asked = ask(suite, own | {"faces": folders["home"]})
    assert asked.suite.zoos == ("faces", "mine")
    assert asked.suite.shifts == {"faces": ("faces-second",)}
    assert asked.suite.kinds == {}
    assert "exam-qwen" in asked.missing
    with pytest.raises(DataError, match="expected at least one of"):
        ask(suite, {"faces-second": folders["home"]})


def test_only_a_suite_with_zoos_of_its_own_builds(tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    assert built_zoos(suite_of("small")) == {}
    with pytest.raises(DataError, match="zoo collection"):
        build_zoos(SUITE)


def test_a_suite_whose_zoos_are_not_built_yet_is_planned_by_its_shares(tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    suite = suite_of("small")
    asked = planned(suite)
    assert asked.suite == suite
    assert {name: facts.loras for name, facts in asked.zoos.items()} == dict(suite.shares)
    text = plan_text(asked, [], 12)
    assert "not built yet, taken to be as large as they will be: faces, exam-qwen" in text
    assert "left out" not in text


@pytest.mark.slow
def test_the_small_suite_builds_its_zoos(tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    suite = replace(suite_of("small"), shares={"exam-qwen": 8})
    assert built_zoos(suite) == {} != build_zoos(suite) == built_zoos(suite)
