"""The family made from a recipe has that recipe, or it is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.bases.bundled import base_facts
from lorascope.zoo.factory.recipe import recipe_of
from lorascope.zoo.factory.restore import family_of, origin_of, parts_of, report_of, torch_dtype
from lorascope.zoo.families import FAMILIES, ExamFamily, FacesFamily


def recipe(family=None, slots=8):
    return recipe_of(family or ExamFamily(5), dtype=torch.float32, slots=slots)


def test_a_family_with_changed_ranges_and_adapters_comes_back():
    family = ExamFamily(
        5,
        {"epochs": ("choice", (1,)), "learning_rate": ("log_uniform", (1e-3, 2e-3))},
        adapters={"rank": 2, "targets": ["k_proj"]},
    )
    again = family_of(recipe(family))
    assert recipe(again) == recipe(family)
    assert again.draw(3) == family.draw(3)
    assert again.spec == family.spec


@pytest.mark.parametrize("name", ["faces", "objects"])
def test_image_families_come_back(name):
    family = FAMILIES[name](3)
    again = family_of(recipe(family))
    assert type(again) is type(family)
    assert again.hyper(2) == family.hyper(2)


def test_a_base_in_a_folder_of_its_own(tmp_path):
    folder = tmp_path / "my-base"
    shutil.copytree(base_facts("exam-qwen").folder, folder)
    made = recipe(ExamFamily(1, base=folder))
    with pytest.raises(DataError, match=r"base 'my-base', expected one of .*faces-control"):
        family_of(made)
    assert family_of(made, folder).base_folder == folder
    moved = folder.rename(tmp_path / "elsewhere")  # the same files are the same base
    assert family_of(made, moved).base_folder == moved
    folder = moved
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"changed": 1}))
    with pytest.raises(DataError, match=r"differs in \['base'\]"):
        family_of(made, folder)


@pytest.mark.parametrize("base", ["faces-control", Path("faces-control"), None])
def test_a_base_that_is_completed_is_found_by_its_name(base, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "one"))
    made = recipe(FacesFamily({"seed": 3, "base": "faces-control"}))
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "another"))
    again = family_of(made, base)
    assert again.base_folder == tmp_path / "another" / "bases" / made["base"]["folder"]


def test_another_base_than_the_recorded_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    made = recipe(FacesFamily({"seed": 3}))
    with pytest.raises(DataError, match=r"differs in \['base'"):
        family_of(made, "faces-second")
    older = {**made, "base": {"folder": "faces-second-0123456789ab", "sha256": "0" * 64}}
    with pytest.raises(DataError, match=r"differs in \['base'"):
        family_of(older)


def test_a_folder_comes_before_a_bundled_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base_facts("exam-llama").folder, tmp_path / "exam-qwen")
    with pytest.raises(DataError, match=r"differs in \['base'"):
        family_of(recipe(), "exam-qwen")
    assert family_of(recipe()).base_folder == base_facts("exam-qwen").folder


@pytest.mark.parametrize("change", [{"family": "cats"}, {"family": None}])
def test_families_that_are_not_known(change):
    with pytest.raises(DataError, match="expected one of"):
        family_of({**recipe(), **change})


def test_a_recipe_of_another_version_is_refused():
    made = recipe()
    with pytest.raises(DataError, match=r"differs in \['options'\]"):
        family_of({**made, "options": {**made["options"], "new": 1}})
    with pytest.raises(DataError, match="found the type 'word'"):
        torch_dtype({"engine": {"dtype": "word"}})


def test_origins_of_merged_and_sampled_zoos():
    parts = [{"family": "a", "seed": 1}, {"family": "b", "seed": 2}]
    merged = {"kind": "merged", "of": [{"name": "x", "recipe": part} for part in parts]}
    sampled = {"kind": "sample", "of": merged}
    assert parts_of(sampled) == parts
    origin = origin_of(sampled, {"id": 90, "origin": 1, "origin_id": 4})
    assert (origin.recipe, origin.index) == (parts[1], 4)
    assert origin_of(parts[0], {"id": 3}).index == 3


def test_the_report_needs_no_base(exam_zoo, faces_zoo):
    for zoo in (exam_zoo, faces_zoo):
        nowhere = {**zoo.recipe, "base": {"folder": "lost", "sha256": "0" * 64}}
        merged = {
            "kind": "merged",
            "targets": zoo.targets,
            "of": [{"name": "x", "recipe": nowhere}],
        }
        assert report_of(merged, zoo.index) == zoo.report
        assert zoo.report["loras"] == len(zoo)


def test_a_report_that_nobody_can_make_is_told(caplog):
    parts = [{"name": "x", "recipe": {"family": family}} for family in ("exam", "own")]
    assert report_of({"kind": "merged", "of": parts}, None) == {}
    assert "making the report of a merged zoo: found LoRAs of 'exam', 'own'" in caplog.text
    caplog.clear()
    sample = {"kind": "sample", "of": {"family": "exam"}, "targets": {"score": {}}}
    assert report_of(sample, None) == {}
    assert (
        "found no 'eval_loss' among its columns or targets, expected those of 'exam'" in caplog.text
    )
    caplog.clear()
    assert report_of({"kind": "sample", "of": {"kind": "import"}}, None) == {}
    assert not caplog.text  # an import has none itself


def test_recipes_from_before_the_exact_steps_are_followed():
    family = ExamFamily(5)
    for steps in (0, 3):
        made = recipe_of(family, dtype=torch.bfloat16, slots=8, exact_steps=steps)
        assert family_of(made).seed == 5
    assert family_of(recipe_of(family, dtype=torch.float32, slots=8, per_lane=3)).seed == 5
