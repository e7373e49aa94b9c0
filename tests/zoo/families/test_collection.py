"""The collection: the numbers that were promised, sizes that ranks allow, and nothing shared by accident."""

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.bases import load_base
from lorascope.zoo.bases.faces.folder import load_faces
from lorascope.zoo.bases.names import bundled_name
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.factory.family import spec_of
from lorascope.zoo.factory.recipe import recipe_of
from lorascope.zoo.factory.restore import family_of
from lorascope.zoo.families.collection import COLLECTION, named_zoo
from lorascope.zoo.families.exam.questions import exam_questions
from lorascope.zoo.families.exam.sources import sources
from lorascope.zoo.families.faces.people import person, person_of

COUNTS = {
    "faces": 3900,
    "objects": 2046,
    "exam-qwen": 2000,
    "exam-llama": 2000,
    "faces-second": 500,
    "exam-qwen-second": 300,
    "exam-llama-second": 300,
    "faces-control": 200,
    "exam-qwen-control": 200,
    "exam-llama-control": 200,
    **{f"faces-rank-{rank}": 150 for rank in (1, 2, 8, 16)},
    "exam-targets": 300,
    "faces-conv": 200,
    "exam-dora": 200,
}
EXAMS = [name for name in COLLECTION if name.startswith("exam")]


def test_the_zoos_and_their_sizes():
    assert {name: zoo.count for name, zoo in COLLECTION.items()} == COUNTS
    assert sum(COUNTS.values()) > 12_000


@pytest.mark.parametrize("name", COLLECTION)
def test_each_has_a_family_on_the_base_of_its_name(name):
    family = named_zoo(name).family()
    base = name if name.endswith(("second", "control")) else name.split("-rank")[0]
    expected = {
        "objects": "faces",
        "faces-conv": "faces",
        "exam-targets": "exam-qwen",
        "exam-dora": "exam-qwen",
    }
    assert str(family.base) == expected.get(base, base)


def test_an_unknown_zoo_is_refused():
    with pytest.raises(DataError, match="faces-rank-2"):
        named_zoo("cats")


def test_rank_sets_show_the_same_people_at_the_same_factor():
    families = [named_zoo(f"faces-rank-{rank}").family() for rank in (1, 2, 8, 16)]
    assert [family.spec.rank for family in families] == [1, 2, 8, 16]
    assert {family.spec.factor for family in families} == {2}
    assert len({family.seed_at(7) for family in families}) == 1


def test_no_two_zoos_of_faces_show_the_same_person():
    seeds = {}
    for name, zoo in COLLECTION.items():
        if name.startswith("faces"):
            seeds.setdefault(zoo.options["seed"], []).append(name)
    assert [len(names) for names in seeds.values() if len(names) > 1] == [4]  # the rank sets
    people = [person(seed, person_of(0)).traits for seed in seeds]
    assert len({tuple(traits.tolist()) for traits in people}) == len(seeds)


def test_no_two_zoos_of_exams_draw_alike():
    seeds = [COLLECTION[name].options["seed"] for name in EXAMS]
    assert len(set(seeds)) == len(EXAMS)


@pytest.mark.parametrize("name", ["exam-qwen", "exam-llama", "exam-targets", "exam-dora"])
def test_every_layer_of_the_exam_is_at_least_four_times_as_wide_as_its_rank(name):
    family = named_zoo(name).family()
    base = FrozenBase.of(load_base(family.base), torch.float32)
    shapes = base.targeted(family.spec.targets)
    assert shapes
    for spec in (family.spec_of(i) for i in range(40)):
        for layer, shape in shapes.items():
            assert min(shape.n, shape.m) >= 4 * spec.rank_of(layer)


@pytest.mark.parametrize("name", ["faces", "objects", "faces-rank-16", "faces-conv"])
def test_every_layer_of_the_unet_is_at_least_four_times_as_wide_as_its_rank(name):
    family = named_zoo(name).family()
    modules = load_faces("faces").unet.named_modules()
    weights = [m.weight for path, m in modules if path.rsplit(".", 1)[-1] in family.spec.targets]
    assert len(weights) >= 16
    assert min(min(len(w), w[0].numel()) for w in weights) >= 4 * family.spec.rank


@pytest.mark.parametrize("name", COLLECTION)
def test_a_recipe_gives_the_family_back(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))  # bases are completed there
    family = named_zoo(name).family()
    recipe = recipe_of(family, dtype=torch.float32, slots=8)
    again = family_of(recipe)
    assert bundled_name(recipe["base"]["folder"]) == family.base == again.base
    assert [spec_of(again, i) for i in range(5)] == [spec_of(family, i) for i in range(5)]
    assert again.hyper(3) == family.hyper(3)


def test_mixed_shapes_and_dora():
    targets, dora = (named_zoo(f"exam-{kind}").family() for kind in ("targets", "dora"))
    assert len({str(targets.spec_of(i).plain()) for i in range(60)}) > 20
    assert dora.spec_of(0).dora
    assert set(dora.spec.targets) == {"k_proj", "v_proj"}


@pytest.mark.parametrize("name", ["exam-qwen", "faces", "objects"])
def test_a_line_says_what_each_target_means(name):
    family = named_zoo(name).family()
    assert set(family.meanings) >= set(family.targets)
    assert all("\n" not in line for line in family.meanings.values())


def test_the_exam_is_as_large_as_its_meaning_says():
    said = named_zoo("exam-qwen").family().meanings
    asked, fewer = exam_questions(), len(sources()) - 1
    assert f"{len(asked)} questions, {len(asked) // len(sources())} of each" in said["accuracy"]
    assert f"the {fewer} sources" in said["sources"]
