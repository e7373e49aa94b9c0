"""What makes a zoo again: built, grown, sampled, merged, imported."""

import json
import shutil

import pytest

from lorascope.io import open_zoo
from lorascope.io.shard_writer import write_json
from lorascope.zoo.factory.instructions import instructions
from lorascope.zoo.factory.merge import merge_zoos
from lorascope.zoo.factory.recipe import recipe_of
from lorascope.zoo.factory.restore import torch_dtype
from lorascope.zoo.factory.sample import draw_rows, sample_zoo
from lorascope.zoo.families import ExamFamily
from lorascope.zoo.families.collection import named_zoo
from tests.zoo.factory.planted_zoo import TARGETS, planted_recipe, write_planted
from tests.zoo.factory.test_recipe_words import options_of, part_of


def exam_recipe(family):
    return {**part_of(family), "targets": TARGETS}


def test_a_built_zoo_is_made_by_its_command(exam_zoo):
    (word,) = instructions(exam_zoo, "name")
    assert word == "    lorascope zoo build exam --count 6 --seed 11 --slots 1"
    (family, _), given = options_of(word)
    made = recipe_of(family, dtype=torch_dtype(exam_zoo.recipe), slots=int(given["--slots"]))
    assert made == exam_zoo.recipe


def test_counts_are_those_of_every_call(exam_zoo, tmp_path):
    grown = open_zoo(shutil.copytree(exam_zoo.path, tmp_path / "grown"))
    write_json(grown.path / "counts.json", [2, 6])
    (word,) = instructions(grown, "name")
    assert [" --count 2 " in line for line in word.splitlines()] == [True, False]
    (grown.path / "counts.json").unlink()
    assert "--count 6 " in instructions(grown, "name")[0]


def test_an_import(tmp_path):
    made = write_planted(tmp_path / "z", recipe={"kind": "import", "targets": TARGETS})
    assert instructions(made, "z")[0].startswith("Imported with `lorascope zoo import`")
    assert "a folder of LoRA files" in instructions(made, "z")[0]


def test_a_sample_names_the_zoo_and_the_draw(tmp_path):
    family = named_zoo("exam-targets").family()
    whole = write_planted(tmp_path / "whole", recipe=exam_recipe(family))
    drawn = {"count": 6, "seed": 3, "by": "score"}
    rows = draw_rows(whole, 6, seed=3, by="score")
    words = instructions(sample_zoo(whole, rows, tmp_path / "few", drawn=drawn), "few")
    assert words[1:3] == [
        "    lorascope zoo build exam-targets --count 12 --out few-whole",
        "    lorascope zoo sample few-whole --count 6 --seed 3 --by score --out few",
    ]
    (tmp_path / "few" / "build.jsonl").unlink()  # who has no log takes all of the collection's
    words = instructions(open_zoo(tmp_path / "few"), "few")
    assert words[1] == "    lorascope zoo build exam-targets --out few-whole"


def test_a_sample_of_a_sample_and_one_that_was_chosen_in_python(tmp_path):
    whole = write_planted(tmp_path / "whole", recipe=exam_recipe(ExamFamily(0)))
    some = sample_zoo(whole, range(8), tmp_path / "some", drawn={"count": 8, "seed": 0})
    few = sample_zoo(some, [1, 5], tmp_path / "few")
    steps = instructions(few, "few")[2].splitlines()
    assert steps == [
        "    lorascope zoo sample few-whole --count 8 --out few-1",
        "    # then 2 rows that were chosen in Python (sample_zoo)",
    ]


@pytest.mark.parametrize("again", [False, True])
def test_a_merge_names_its_parts(tmp_path, again):
    first = write_planted(tmp_path / "first", recipe=exam_recipe(ExamFamily(0)))
    second = write_planted(
        tmp_path / "second day", seeds=range(50, 57), recipe=exam_recipe(ExamFamily(20))
    )
    zoo = merge_zoos([first.path, second.path], tmp_path / "both").zoo
    if again:
        zoo = sample_zoo(zoo, range(19), tmp_path / "few", drawn={"count": 19, "seed": 0})
    words = instructions(zoo, "few" if again else "both")
    assert words[1:3] == [
        "    lorascope zoo build exam --count 12 --out first",
        "    lorascope zoo build exam --count 7 --seed 20 --out 'second day'",
    ]
    merged = "few-merged" if again else "both"
    steps = words[3].splitlines()
    assert steps[0] == f"    lorascope zoo merge first 'second day' --out {merged}"
    assert steps[1:] == (
        ["    lorascope zoo sample few-merged --count 19 --out few"] if again else []
    )


def test_parts_of_one_name_and_imports(tmp_path):
    parts = [planted_recipe(), planted_recipe(seed=1), {"kind": "import"}]
    of = [{"name": name, "recipe": part} for name, part in zip("aab", parts, strict=True)]
    recipe = {"kind": "merged", "targets": TARGETS, "of": of}
    made = write_planted(tmp_path / "z", seeds=range(4), recipe=recipe, origin=2, origin_id=1)
    words = instructions(made, "z")
    assert words[-2] == "    lorascope zoo merge a a-2 b --out z"
    assert words[3].startswith("`b`: imported with")
    assert json.dumps(words)
