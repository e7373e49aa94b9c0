"""The card says what is in a zoo, in bytes that depend on nothing else."""

import json
import re
import shutil

import pytest

from lorascope.io import open_zoo
from lorascope.zoo.bases.names import BASE_DIGESTS
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
    assert "| +0.125 |" in row
    assert "| 0.25 | r2 0.9 |" in row.replace("0.2500", "0.25")
    assert "| odd | 0.500 |" in text
    assert "| b | 0.500 |" in text
    assert "- built with lorascope 0.1 and 0.2, python 3.11, torch 2.0, compiler cc&lt;1>" in text
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
    assert "\n    lorascope zoo build exam --count 6 --seed 11 --slots 1\n" in card(exam_zoo)
    assert "license:" not in card(zoo).split("---")[1]
    assert "None is named" in card(zoo)


def test_it_does_not_depend_on_whether_the_base_is_there(second_zoo, tmp_path, monkeypatch):
    before = card(second_zoo)
    assert 'license: "apache-2.0"' in before
    assert "apache-2.0. Made by lorascope, base and data included." in before
    assert "lorascope.zoo.families import FacesFamily" in before
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "file"))
    assert card(second_zoo) == before


@pytest.mark.parametrize(
    "change",
    [
        {"family": "own"},
        {"base": {"folder": "exam-qwen", "sha256": "0" * 64}},
        {"family": "arc-qwen2-1.5b"},
    ],
)
def test_a_zoo_that_only_looks_bundled_has_no_licence(tmp_path, change):
    base = {"folder": "exam-qwen", "sha256": BASE_DIGESTS["exam-qwen"]}
    ours = planted_recipe(family="exam", base=base)
    assert "apache-2.0" in card(write_planted(tmp_path / "a", recipe=ours))
    assert "None is named" in card(write_planted(tmp_path / "b", recipe={**ours, **change}))
    of = [{"name": "x", "recipe": part} for part in (ours, {**ours, **change})]
    both = {"kind": "merged", "targets": TARGETS, "of": of}
    made = write_planted(tmp_path / "c", recipe=both, origin=0, origin_id=1)
    assert "None is named" in card(made)


def test_it_says_what_the_report_knows(exam_zoo):
    text = card(exam_zoo)
    rows = exam_zoo.report["by_source"]
    assert f"| all of these sources | {rows['trained']:.4g} | {rows['dropped']:.4g} |" in text
    (dragons,) = [
        line
        for line in text.splitlines()
        if line.startswith("| dragons |") and line.count("|") == 4
    ]
    told = [rows["dragons"][key] for key in ("trained", "dropped")]
    assert [cell.strip() for cell in dragons.split("|")[2:4]] == [
        "" if value is None else f"{value:.4g}" for value in told
    ]
    for name in exam_zoo.targets:
        assert f"\n- {name}: " in text
    assert "whose right option of four is the likeliest" in text


def test_names_from_files_do_no_harm(tmp_path):
    targets = {**TARGETS, "maker": {"kind": "multiclass", "classes": ["a", "b|<script>\n# x"]}}
    made = write_planted(tmp_path / "z", seeds=range(4), recipe=planted_recipe(targets=targets))
    text = card(made)
    assert "<script>" not in text
    assert "\n# x" not in text
    assert plain("a|b`c<d&e\n") == "a&#124;b&#96;c&lt;d&amp;e?"
    assert plain("![x](http://y)") == "!&#91;x](http://y)"


def test_recipes_from_files_do_no_harm(tmp_path):
    base = {"folder": "tiny<script>", "sha256": "0" * 64}
    recipe = planted_recipe(base=base, options={"x": "`<script>"}, seed="<script>")
    text = card(write_planted(tmp_path / "z", seeds=range(4), recipe=recipe))
    assert """ranges `{"x": "'<script>"}`""" in text  # in code it is a word as any other
    assert text.count("<script>") == 1


def test_infinite_labels_are_left_out_of_numbers_and_picture(tmp_path):
    made = write_planted(tmp_path / "z", seeds=range(4), **{"label:score": float("inf")})
    text = write_card(made).read_text()
    assert "| score | regression |  |  |  |  | 0.25 |" in text


@pytest.mark.parametrize("kind", ["import", "merged", "sample"])
def test_where_it_came_from(tmp_path, kind):
    of = [{"name": "x", "recipe": planted_recipe()}] * 2 if kind == "merged" else planted_recipe()
    recipe = {"kind": kind, "targets": TARGETS, "of": of}
    made = write_planted(tmp_path / "z", seeds=range(4), recipe=recipe, origin=0, origin_id=1)
    word = {"import": "Imported", "merged": "A merge of 2", "sample": "A sample of 1"}[kind]
    assert word in card(made)
    assert ("`lorascope zoo rebuild DIR ID`" in card(made)) == (kind != "import")
    assert json.dumps(recipe)  # plain data


@pytest.mark.parametrize(
    ("count", "word"),
    [(1, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M")],
)
def test_the_words_for_sizes(count, word):
    assert size_category(count) == word
