"""The card says what is in a zoo, in bytes that depend on nothing else."""

import json
import re
import shutil

import pytest

from lorascope.io import open_zoo
from lorascope.zoo.factory.card import card, plain, size_category, write_card
from tests.zoo.factory.planted_zoo import TARGETS, planted_recipe, write_planted


@pytest.fixture
def zoo(tmp_path):
    return write_planted(tmp_path / "my-zoo")


def test_the_same_zoo_gives_the_same_bytes_wherever_it_lies(zoo, tmp_path):
    first = write_card(zoo).read_bytes()
    assert write_card(open_zoo(zoo.path)).read_bytes() == first
    moved = shutil.copytree(zoo.path, tmp_path / "elsewhere" / "my-zoo")
    (moved / "README.md").unlink()
    assert write_card(open_zoo(moved)).read_bytes() == first
    assert b"secret-host" not in first
    assert str(tmp_path).encode() not in first


def test_it_holds_tables_ceilings_versions_limits_and_licence(zoo):
    text = card(zoo, licence="cc-by-4.0")
    assert "12 LoRA adapters with labels, in 6 groups; base tiny; 2 layers" in text
    row = next(line for line in text.splitlines() if line.startswith("| score |"))
    values = zoo.labels("score")
    for number in (values.mean(), values.std(), 0.0, 1.0, 0.25):
        assert f"| {number:.4g} " in row
    assert "r2 0.9 |" in row
    assert "| odd | 0.500 |" in text
    assert "| b | 0.500 |" in text
    assert "python 3.11, torch 2.0" in text
    assert "- Training of 0 of 12 diverged" in text
    assert "cc-by-4.0" in text.split("## Licence")[1]


def test_the_header_is_what_the_hub_reads(zoo):
    yaml = pytest.importorskip("yaml")
    header = re.match(r"---\n(.*?)\n---\n", card(zoo, licence="mit", name='a "zoo": 1'), re.DOTALL)
    data = yaml.safe_load(header.group(1))
    assert data["license"] == "mit"
    assert data["pretty_name"] == 'a "zoo": 1'
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"] == [{"config_name": "index", "data_files": "index.parquet"}]
    from huggingface_hub import DatasetCard

    assert DatasetCard(card(zoo)).data.to_dict()["pretty_name"] == "my-zoo"


def test_a_zoo_of_a_bundled_base_has_its_licence_and_others_none(exam_zoo, zoo):
    assert 'license: "apache-2.0"' in card(exam_zoo)
    assert "`lorascope zoo build exam`" in card(exam_zoo)
    assert "license:" not in card(zoo).split("---")[1]
    assert "None is named" in card(zoo)


def test_names_from_files_do_no_harm(tmp_path):
    targets = {**TARGETS, "maker": {"kind": "multiclass", "classes": ["a", "b|<script>\n# x"]}}
    made = write_planted(tmp_path / "z", seeds=range(4), recipe=planted_recipe(targets=targets))
    text = card(made)
    assert "<script>" not in text
    assert "\n# x" not in text
    assert plain("a|b`c<d&e\n") == "a&#124;b&#96;c&lt;d&amp;e?"


@pytest.mark.parametrize("kind", ["import", "merged", "sample"])
def test_where_it_came_from(tmp_path, kind):
    of = [{"name": "x", "recipe": planted_recipe()}] * 2 if kind == "merged" else planted_recipe()
    recipe = {"kind": kind, "targets": TARGETS, "of": of}
    made = write_planted(tmp_path / "z", seeds=range(4), recipe=recipe, origin=0, origin_id=1)
    word = {"import": "Imported", "merged": "A merge of 2", "sample": "A sample of 1"}[kind]
    assert word in card(made)
    assert json.dumps(recipe)  # plain data


@pytest.mark.parametrize(
    ("count", "word"),
    [(1, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_the_words_for_sizes(count, word):
    assert size_category(count) == word
