"""A card shows the samples that were asked for, and they go to the Hub with it."""

import shutil

import pytest

from lorascope.errors import DataError
from lorascope.io.shards import open_zoo
from lorascope.zoo.factory.card import write_card
from lorascope.zoo.factory.push import files_to_push
from lorascope.zoo.factory.shown import write_samples
from tests.zoo.factory.planted_zoo import write_planted


def copied(zoo, folder):
    shutil.copytree(zoo.path, folder)
    return open_zoo(folder)


def test_answers_of_an_exam_stand_in_its_card(exam_zoo, tmp_path):
    zoo = copied(exam_zoo, tmp_path / "zoo")
    assert "side by side" not in write_card(zoo).read_text()
    place = write_samples(zoo, 2)
    text = write_card(zoo).read_text()
    assert place.name == "samples.md"
    assert place.read_text().strip() in text
    assert "![How the labels are spread](labels.png)" in text
    names = [name for name, _ in files_to_push(zoo.path)]
    assert {"labels.png", "samples.md"} <= set(names)


def test_pictures_of_faces_stand_in_their_card(faces_zoo, tmp_path):
    zoo = copied(faces_zoo, tmp_path / "zoo")
    place = write_samples(zoo, 1)
    assert place.read_bytes().startswith(b"\x89PNG")
    assert "(samples.png)" in write_card(zoo).read_text()
    assert "samples.png" in [name for name, _ in files_to_push(zoo.path)]


def test_zoos_of_others_have_no_samples(tmp_path):
    zoo = write_planted(tmp_path / "zoo")
    with pytest.raises(DataError, match="'planted'"):
        write_samples(zoo, 1)
    assert not (zoo.path / "samples.png").exists()


def test_of_a_table_from_elsewhere_only_words_are_shown(exam_zoo, tmp_path):
    zoo = copied(exam_zoo, tmp_path / "zoo")
    bad = (
        "# mine\n| a | b |\n| <script> | b |\n| [x](y) ![z](w) | b |\n| `c` | b |\n| 1 | is 0.5 |\n"
    )
    (zoo.path / "samples.md").write_text(bad)
    text = write_card(zoo).read_text()
    assert "| a | b |\n| 1 | is 0.5 |" in text
    assert not any(part in text for part in ("# mine", "<script>", "![z]", "`c`"))
