"""What the words say is done here: commands are parsed, lines run, and the recipe is that of the zoo."""

import json
import shlex
from pathlib import Path

import pytest
import torch

from lorascope.cli.zoo import family_and_count
from lorascope.zoo.bases.names import BASE_DIGESTS
from lorascope.zoo.engine.grouping import PER_LANE
from lorascope.zoo.factory import build
from lorascope.zoo.factory.family import engine_of
from lorascope.zoo.factory.recipe_words import (
    build_words,
    collection_name,
    command,
    indented,
    one_line,
)
from lorascope.zoo.families import ExamFamily, FacesFamily, ObjectsFamily, published
from lorascope.zoo.families.collection import COLLECTION, named_zoo
from lorascope.zoo.families.exam.shapes import MIXED


def part_of(family, *, dtype="float32", slots=None, base=None):
    """A recipe as far as it says what is built; nothing is loaded for it."""
    engine = engine_of(family)
    steps = {} if dtype == "float32" else {"exact_steps": engine.exact_steps}
    steps |= {} if engine.per_lane == PER_LANE else {"per_lane": engine.per_lane}
    base = base or {"folder": str(family.base), "sha256": BASE_DIGESTS[str(family.base)]}
    recipe = {
        "family": family.name,
        "seed": family.seed,
        "base": base,
        "adapters": family.spec.plain(),
        "options": family.options,
        "engine": {"dtype": dtype, "slots": slots or engine.slots, **steps},
    }
    return json.loads(json.dumps(recipe))


def options_of(line):
    """The family of a command, and its options."""
    program, zoo, verb, family, *words = shlex.split(line)
    assert (program, zoo, verb) == ("lorascope", "zoo", "build")
    given = dict(zip(words[::2], words[1::2], strict=True))
    seed = given.get("--seed")
    return family_and_count(family, None if seed is None else int(seed), {}), given


def run_lines(words, monkeypatch):
    """The calls of build_zoo that lines of Python make."""
    calls = []
    monkeypatch.setattr(build, "build_zoo", lambda *args, **options: calls.append((args, options)))
    text = words.removeprefix("```python\n").removesuffix("```")
    exec(compile(text, "README.md", "exec"), {})
    return calls


@pytest.mark.parametrize("name", COLLECTION)
def test_a_zoo_of_the_collection_is_built_by_its_name(name):
    zoo = named_zoo(name)
    part = part_of(zoo.family())
    assert collection_name(part) == name
    assert build_words(part, [zoo.count]) == [f"    lorascope zoo build {name}"]
    (word,) = build_words(part, [zoo.count - 1])
    (family, usual), given = options_of(word)
    assert part_of(family) == part
    assert (given, usual) == ({"--count": str(zoo.count - 1)}, zoo.count)


@pytest.mark.parametrize("name", ["faces", "objects", "faces-rank-2", "exam-llama-second"])
def test_one_of_another_seed_by_its_name_and_the_seed(name):
    part = part_of(named_zoo(name).family(77))
    assert part["seed"] == 77
    (word,) = build_words(part, [40])
    (family, _), given = options_of(word)
    assert part_of(family) == part
    assert given == {"--count": "40", "--seed": "77"}


def test_what_was_completed_is_the_same_base():
    part = part_of(named_zoo("faces-control").family())
    part["base"]["folder"] += "-7db8e4d562b8"
    assert collection_name(part) == "faces-control"
    part["base"]["sha256"] = "0" * 64
    assert collection_name(part) is None


def test_a_family_of_the_command_line_with_its_seed_slots_and_type():
    part = part_of(ExamFamily(11), dtype="bfloat16", slots=1)
    (word,) = build_words(part, [6])
    (family, _), given = options_of(word)
    assert part_of(family, dtype=given["--dtype"], slots=int(given["--slots"])) == part
    assert given["--count"] == "6"


def test_a_zoo_that_grew_takes_as_many_commands():
    words = build_words(part_of(ExamFamily(0)), [8, 300], "my zoo")
    assert words == [
        "    lorascope zoo build exam --count 8 --out 'my zoo'\n"
        "    lorascope zoo build exam --count 300 --out 'my zoo'"
    ]
    assert "--out DIR" in build_words(part_of(ExamFamily(0)), [8, 300])[0]


@pytest.mark.parametrize(
    "family",
    [
        ExamFamily(3, base="exam-llama-second", adapters={"rank": 2, "alpha": 4.0}),
        ExamFamily(4, {"epochs": ("choice", (1,))}, adapters={"rank": 2, "alpha": 8.0}),
        ExamFamily(5, adapters={"dora": True, "rank": 2}, shapes=MIXED),
        FacesFamily({"seed": 1, "base": "faces-second", "ranges": {"steps": {"choice": [5]}}}),
        ObjectsFamily({"seed": 2, "adapters": {"rank": 2}}),
    ],
    ids=["exam second", "exam rank", "exam dora", "faces second", "objects"],
)
def test_the_lines_of_python_describe_the_family(family, monkeypatch):
    part = part_of(family, slots=3)
    (words,) = build_words(part, [40])
    (((made, count), options),) = run_lines(words, monkeypatch)
    assert part_of(made, slots=options["slots"]) == part
    assert (count, options) == (40, {"slots": 3})


def test_the_lines_of_half_precision_that_grew(monkeypatch):
    family = FacesFamily({"seed": 9, "ranges": {"steps": {"choice": [5]}}})
    part = part_of(family, dtype="bfloat16")
    (words,) = build_words(part, [2, 5], "here")
    calls = run_lines(words, monkeypatch)
    assert [(args[1:], options) for args, options in calls] == [
        ((2, "here"), {"dtype": torch.bfloat16}),
        ((5, "here"), {"dtype": torch.bfloat16}),
    ]


@pytest.mark.parametrize("kind", [ExamFamily, lambda seed: FacesFamily({"seed": seed})])
def test_a_base_of_ones_own_is_a_folder_that_is_named(kind, monkeypatch):
    own = {"folder": "mine\n```", "sha256": "abcdef0123456789"}
    (words,) = build_words(part_of(kind(3), base=own), [40])
    assert "# FOLDER: of the base, mine?```, sha256 abcdef012345" in words
    (((made, _), _),) = run_lines(words, monkeypatch)
    assert made.base == Path("FOLDER")


@pytest.mark.parametrize(
    ("name", "options", "folders"),
    [
        ("arc-qwen2-1.5b", {"longest": 99, "data_sha256": "1"}, ["base", "data"]),
        (
            "celeba-sd14",
            {"steps": 20, "own_samples": 4, "clip_sha256": "1", "photographs": 15},
            ["base", "data", "clip"],
        ),
    ],
)
def test_published_data(name, options, folders, monkeypatch):
    engine = engine_of(published.PUBLISHED[name].kind)
    lanes = {"per_lane": engine.per_lane}
    ranges = {"steps": {"choice": [1]}}
    part = {
        "family": name,
        "seed": 4,
        "base": {"folder": "Qwen2-1.5B", "sha256": "1" * 64},
        "adapters": {},
        "options": {"ranges": ranges, **options},
        "engine": {"dtype": "float32", "slots": engine.slots, **lanes},
    }
    given = {}
    monkeypatch.setattr(
        published, "published_family", lambda name, **more: given.update(more, name=name)
    )
    (words,) = build_words(part, [40])
    assert run_lines(words, monkeypatch) == [((None, 40), {})]
    assert [key for key, value in given.items() if value == "FOLDER"] == folders
    assert (given["name"], given["seed"], given["ranges"]) == (name, 4, ranges)
    assert given.get("photographs") == options.get("photographs")
    assert given.get("longest") == options.get("longest")
    assert given.get("sampled") == (True if "clip_sha256" in options else None)


def test_what_this_version_cannot_build_is_said():
    part = part_of(ExamFamily(3))
    for key, value in (("options", {**part["options"], "new": 1}), ("engine", {}), ("adapters", 7)):
        (words,) = build_words({**part, key: value}, [4])
        assert "No family of this version" in words
    (words,) = build_words({"family": "own`", "seed": 0}, [4])
    assert "`own?`" in words
    assert "`build_zoo(family, 4)`" in words


def test_another_engine_is_said():
    part = part_of(ExamFamily(3), dtype="bfloat16")
    part["engine"] |= {"exact_steps": 77, "per_lane": 9}
    assert "has other `exact_steps` and `per_lane` than" in build_words(part, [4])[1]
    part = part_of(FacesFamily({"seed": 0}))
    part["engine"].pop("per_lane")
    assert "has other `per_lane` than" in build_words(part, [4])[1]
    assert len(build_words(part_of(ExamFamily(3), dtype="bfloat16"), [4])) == 1


def test_names_from_files_stay_on_their_line():
    assert one_line("a\nb\x00") == "a?b?"
    assert command(["zoo", "merge", "my zoo;rm", "b\n"]) == "lorascope zoo merge 'my zoo;rm' 'b?'"
    assert indented(["a", "b"]) == "    a\n    b"
