"""One zoo of several: nothing lost, nothing twice, no split that leaks, no ids that clash."""

import pytest
import torch

from lorascope.core import LoRA, LowRank
from lorascope.errors import DataError, FileError, SignatureError
from lorascope.io.shard_writer import ZooWriter
from lorascope.zoo.factory.merge import merge_zoos
from lorascope.zoo.factory.restore import origin_of
from lorascope.zoo.factory.sample import draw_rows, sample_zoo
from lorascope.zoo.factory.verify import verify_zoo
from tests.conftest import random_lora
from tests.zoo.factory.planted_zoo import (
    TARGETS,
    planted_lora,
    planted_recipe,
    planted_row,
    write_planted,
)


def other_recipe(**more):
    return planted_recipe(**{"seed": 1, **more})


@pytest.fixture
def first(tmp_path):
    return write_planted(tmp_path / "first")


def test_the_same_base_in_folders_of_other_names_is_one(first, tmp_path):
    base = {"folder": "snapshot", "sha256": first.recipe["base"]["sha256"]}
    write_planted(tmp_path / "second", seeds=range(50, 57), recipe=other_recipe(base=base))
    made = merge_zoos([first.path, tmp_path / "second"], tmp_path / "c")
    assert len(made.zoo) == 19
    assert made.zoo.recipe["base"] == first.recipe["base"]
    assert verify_zoo(made.zoo.path).sound


def test_ids_are_moved_where_they_clash_and_each_row_knows_its_origin(first, tmp_path):
    second = write_planted(tmp_path / "second", seeds=range(50, 57), recipe=other_recipe())
    steps = []
    made = merge_zoos(
        [first.path, second.path], tmp_path / "c", progress=lambda *step: steps.append(step)
    )
    assert steps == [(19, 19)]
    assert (made.copies, made.joined, made.moved) == (0, 0, {"second": 12})
    zoo = made.zoo
    assert zoo.column("id").tolist() == list(range(19))
    assert zoo.column("sha256").tolist() == [
        *first.column("sha256").tolist(),
        *second.column("sha256").tolist(),
    ]
    assert zoo.groups() == [*first.groups(), *second.groups()]
    assert zoo.labels("score").tolist()[12:] == second.labels("score").tolist()
    row = zoo.index.slice(14, 1).to_pylist()[0]
    origin = origin_of(zoo.recipe, row)
    assert (origin.recipe["seed"], origin.index) == (1, 2)
    assert verify_zoo(zoo.path).sound


def test_ids_that_do_not_clash_are_kept(first, tmp_path):
    second = write_planted(tmp_path / "b", seeds=range(50, 53), first_id=700, recipe=other_recipe())
    made = merge_zoos([first.path, second.path], tmp_path / "c")
    assert made.zoo.column("id").tolist() == [*range(12), 700, 701, 702]
    assert made.moved == {}


def test_groups_of_one_name_stay_one(first, tmp_path):
    write_planted(tmp_path / "b", seeds=range(100, 104), recipe=other_recipe(), group="g1")
    zoo = merge_zoos([first.path, tmp_path / "b"], tmp_path / "c").zoo
    assert zoo.groups().count("g1") == 2 + 4


def test_a_copy_is_taken_once_and_joins_the_groups(first, tmp_path):
    writer = ZooWriter(tmp_path / "b", other_recipe())
    rows = [planted_row(i, seed, "h") for i, seed in enumerate((4, 200))]
    writer.add_shard(0, [planted_lora(4), planted_lora(200)], rows)  # 4 is in the first zoo, of g2
    writer.finish()
    made = merge_zoos([first.path, tmp_path / "b"], tmp_path / "c")
    assert (made.copies, made.joined) == (1, 1)
    assert len(made.zoo) == 13
    assert made.zoo.groups()[-1] == "g2"  # the LoRA that shared a group with the copy


def test_two_parts_of_one_recipe_are_told_by_their_index(first, tmp_path):
    part = sample_zoo(first, draw_rows(first, 6), tmp_path / "part")
    rest = sample_zoo(first, draw_rows(first, 12), tmp_path / "all")
    made = merge_zoos([part.path, rest.path], tmp_path / "c")
    assert (made.copies, len(made.zoo)) == (6, 12)
    assert sorted(made.zoo.column("origin_id").tolist()) == list(range(12))


def test_a_merged_zoo_can_be_merged_again(first, tmp_path):
    second = write_planted(tmp_path / "b", seeds=range(50, 54), recipe=other_recipe())
    third = write_planted(tmp_path / "d", seeds=range(60, 63), recipe=other_recipe(seed=2))
    both = merge_zoos([first.path, second.path], tmp_path / "c").zoo
    zoo = merge_zoos([both.path, third.path], tmp_path / "e").zoo
    seeds = [origin_of(zoo.recipe, row).recipe["seed"] for row in zoo.index.to_pylist()]
    assert seeds == [0] * 12 + [1] * 4 + [2] * 3
    assert zoo.column("origin_id").tolist() == [*range(12), *range(4), *range(3)]


def test_the_same_merge_again_has_the_same_bytes_and_another_is_refused(first, tmp_path):
    second = write_planted(tmp_path / "b", seeds=range(50, 54), recipe=other_recipe())
    third = write_planted(tmp_path / "d", seeds=range(60, 63), recipe=other_recipe(seed=2))
    merge_zoos([first.path, second.path], tmp_path / "c")
    files = [p for p in sorted((tmp_path / "c").rglob("*.*")) if p.name != "build.jsonl"]
    before = [p.read_bytes() for p in files if p.is_file()]
    merge_zoos([first.path, second.path], tmp_path / "c")
    assert [p.read_bytes() for p in files if p.is_file()] == before
    with pytest.raises(FileError, match="another recipe"):
        merge_zoos([first.path, third.path], tmp_path / "c")


def test_refusals(first, tmp_path):
    with pytest.raises(DataError, match="two or more"):
        merge_zoos([first.path], tmp_path / "c")
    with pytest.raises(DataError, match="each once"):
        merge_zoos([first.path, first.path], tmp_path / "c")
    targets = {**TARGETS, "maker": {"kind": "multiclass", "classes": ["a", "b", "c"]}}
    write_planted(tmp_path / "t", seeds=range(2), recipe=other_recipe(targets=targets))
    with pytest.raises(DataError, match=r"target 'maker' is .*'c'"):
        merge_zoos([first.path, tmp_path / "t"], tmp_path / "c")
    base = {"folder": "tiny", "sha256": "1" * 64}
    write_planted(tmp_path / "u", seeds=range(2), recipe=other_recipe(base=base))
    with pytest.raises(DataError, match="found the base tiny \\(sha256 111111111111"):
        merge_zoos([first.path, tmp_path / "u"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_other_layers_are_refused(first, tmp_path, generator):
    writer = ZooWriter(tmp_path / "v", other_recipe())
    writer.add_shard(0, [random_lora(generator)], [planted_row(0, 0, "g")])
    writer.finish()
    with pytest.raises(
        SignatureError, match=r"adapt different layers; found 4 .* the 2 of the"
    ) as no:
        merge_zoos([first.path, tmp_path / "v"], tmp_path / "c")
    assert "the first alone q_proj (1), v_proj (1), the second alone q (2), v (1), conv (1)" in str(
        no.value
    )
    assert "zoos of one base" not in str(no.value)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"model.layers.0.q_proj": (8, 6)},
            r"different layers; .*: the first alone v_proj \(1\)\. Try",
        ),
        (
            {"model.layers.0.q_proj": (9, 6), "model.layers.0.v_proj": (5, 6)},
            r"'model.layers.0.q_proj' is \(9, 6\) in the second, expected \(8, 6\)",
        ),
    ],
)
def test_layers_that_are_fewer_or_of_other_sizes_are_told(first, tmp_path, changed, problem):
    layers = {name: LowRank(torch.ones(n, 1), torch.ones(m, 1)) for name, (n, m) in changed.items()}
    writer = ZooWriter(tmp_path / "v", other_recipe())
    writer.add_shard(0, [LoRA(layers)], [planted_row(0, 0, "g")])
    writer.finish()
    with pytest.raises(SignatureError, match=problem):
        merge_zoos([first.path, tmp_path / "v"], tmp_path / "c")
