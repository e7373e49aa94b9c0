"""A LoRA made again alone, compared with the one of a real small zoo."""

import json
import shutil

import pytest
import torch

from lorascope.core import LoRA
from lorascope.errors import DataError, FileError
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.factory.rebuild import Comparison, Source, nearness, rebuild_loras
from lorascope.zoo.families import FacesFamily, ObjectsFamily
from tests.zoo.factory.planted_zoo import planted_lora


@pytest.fixture
def zoo(exam_zoo):
    return exam_zoo


def test_the_group_as_it_was_has_the_same_bytes(zoo):
    (made,) = rebuild_loras(zoo.path, [4], as_built=True)
    assert made.comparison.verdict == "same bytes"
    assert made.comparison.distance == 0
    assert made.row["id"] == 4
    assert made.row["group"] == zoo.groups()[4]


def test_alone_it_comes_close_and_its_labels_too(zoo):
    (made,) = rebuild_loras(zoo.path, [2])
    comparison = made.comparison
    assert comparison.verdict in ("same bytes", "close")
    assert comparison.cosine > 0.999
    assert comparison.labels["sources"][0] == comparison.labels["sources"][1]
    assert comparison.label_distance < 0.25


def test_a_lora_of_faces(faces_zoo):
    (made,) = rebuild_loras(faces_zoo.path, [1])
    assert made.comparison.verdict in ("same bytes", "close")
    assert made.comparison.cosine > 0.9999
    attributes = made.comparison.labels["attributes"]
    assert attributes[0] == attributes[1]


def test_a_lora_of_a_base_that_is_completed(second_zoo):
    (made,) = rebuild_loras(second_zoo.path, [0])
    assert made.comparison.verdict == "same bytes"


@pytest.mark.slow
def test_a_lora_of_objects(tmp_path):
    family = ObjectsFamily({"seed": 2, "ranges": {"steps": {"choice": [15]}}})
    plain = {"processes": 0, "compile": False, "progress": False, "dtype": torch.float32}
    zoo = build_zoo(family, 2, tmp_path / "zoo", **plain)
    (made,) = rebuild_loras(zoo.path, [0])
    assert made.comparison.verdict in ("same bytes", "close")
    assert made.comparison.cosine > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("as_built", [False, True])
def test_a_lora_of_the_shipped_path(tmp_path, as_built):
    """bfloat16, fused kernels: alone as in its group."""
    zoo = build_zoo(FacesFamily({"seed": 3}), 6, tmp_path / "zoo", processes=0, progress=False)
    (made,) = rebuild_loras(zoo.path, [2], as_built=as_built)
    assert made.comparison.verdict in ("same bytes", "close"), made.comparison
    if as_built:
        assert made.comparison.verdict == "same bytes"


def test_recipe_and_index_are_enough_and_the_recipe_alone_too(zoo, tmp_path):
    lone = tmp_path / "lone"
    lone.mkdir()
    for name in ("recipe.json", "index.parquet"):
        shutil.copy(zoo.path / name, lone)
    (made,) = rebuild_loras(lone, [4], compiled=False)
    assert made.comparison.distance is None
    assert made.comparison.verdict in ("same bytes", "close")
    (lone / "index.parquet").unlink()
    (again,) = rebuild_loras(lone, [4], compiled=False)
    assert again.comparison.verdict == "nothing stored"
    assert all(torch.equal(again.lora[name].u, made.lora[name].u) for name in made.lora)
    with pytest.raises(DataError, match=r"without index\.parquet"):
        rebuild_loras(lone, [-1])
    with pytest.raises(DataError, match="as it was built"):
        rebuild_loras(lone, [4], as_built=True)


def test_another_zoos_lora_is_different(zoo, tmp_path):
    """The index and shards of one recipe beside another recipe."""
    other = shutil.copytree(zoo.path, tmp_path / "other")
    recipe = json.loads((other / "recipe.json").read_text())
    (other / "recipe.json").write_text(json.dumps(recipe | {"seed": 12}))
    (made,) = rebuild_loras(other, [1], compiled=False)
    assert made.comparison.verdict == "different"
    assert made.comparison.cosine < 0.9


def test_the_kernels_are_those_of_the_build(zoo, tmp_path):
    assert not Source(zoo.path).compiled
    (tmp_path / "recipe.json").write_text("{}")
    assert Source(tmp_path).compiled
    (tmp_path / "build.jsonl").write_text('{"event": "start", "compiled": false}\n')
    assert not Source(tmp_path).compiled


def test_refusals(zoo, tmp_path):
    with pytest.raises(FileError, match=r"no recipe\.json"):
        rebuild_loras(tmp_path, [0])
    with pytest.raises(DataError, match="id 99"):
        rebuild_loras(zoo.path, [99])


def test_nearness():
    first, second = planted_lora(0), planted_lora(1)
    assert nearness(first, first) == (0.0, 1.0)
    doubled = first * 2.0
    distance, cosine = nearness(first, doubled)
    assert (distance, cosine) == (pytest.approx(1.0), pytest.approx(1.0))
    gap = sum(
        float((first[n].dense().double() - second[n].dense().double()).square().sum())
        for n in first
    )
    assert nearness(first, second)[0] == pytest.approx((gap**0.5) / float(first.norm()), rel=1e-5)
    nothing = LoRA({name: pair * 0.0 for name, pair in first.layers.items()})
    assert nearness(nothing, nothing) == (0.0, 1.0)
    assert nearness(nothing, first)[1] == 0.0


@pytest.mark.parametrize(
    ("comparison", "verdict"),
    [
        (Comparison(None), "nothing stored"),
        (Comparison(True, 0.0, 1.0, {}, 0.0), "same bytes"),
        (Comparison(True, 0.0, 1.0, {}, 0.1), "close"),
        (Comparison(True, 0.0, 1.0, {}, 3.0), "different"),
        (Comparison(False, 0.01, 0.9995, {}, 0.1), "close"),
        (Comparison(False, 0.1, 0.998, {}, 0.0), "different"),
        (Comparison(False, None, None, {}, 0.0), "close"),
    ],
)
def test_verdicts(comparison, verdict):
    assert comparison.verdict == verdict
