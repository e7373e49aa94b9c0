"""The bundled bases: there, whole, and as good as recorded."""

import json
import shutil

import pytest

from lorascope.errors import FileError, IntegrityError
from lorascope.zoo.bases import BASES, base_facts, load_base
from lorascope.zoo.bases.exam import own_scores

LIMIT_BYTES = 3_000_000


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(base_facts().folder, tmp_path / "base")


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_small_and_says_how_it_was_made(name):
    facts = base_facts(name)
    assert sum(path.stat().st_size for path in facts.folder.iterdir()) <= LIMIT_BYTES
    assert facts.command.startswith("python -m lorascope.zoo.bases.")
    assert facts.command in (facts.folder / "README.md").read_text()


def test_the_exam_base_scores_as_recorded():
    base = load_base("exam-qwen")
    assert type(base).__name__ == "Qwen2ForCausalLM"
    assert own_scores(base) == pytest.approx(dict(base_facts("exam-qwen").scores), abs=1e-4)


def test_the_exam_base_holds_candidates_equally_likely():
    scores = base_facts("exam-qwen").scores
    assert 0.15 < scores["accuracy"] < 0.35  # four options
    assert scores["eval_loss"] == pytest.approx(1.386, abs=0.05)  # log 4


def test_a_folder_serves_as_well_as_a_name(copied):
    assert base_facts(copied).sha256 == base_facts().sha256
    assert load_base(copied).num_parameters() == load_base().num_parameters()


def test_an_unknown_base_is_refused():
    with pytest.raises(FileError, match="no such bundled base"):
        base_facts("exam-llama")


def test_a_folder_without_its_record_is_refused(copied):
    (copied / "base.json").unlink()
    with pytest.raises(FileError, match=r"base\.json"):
        load_base(copied)


def test_changed_weights_are_refused(copied):
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="sha256"):
        load_base(copied)
    file.unlink()
    with pytest.raises(FileError, match=r"model\.safetensors"):
        load_base(copied)


def test_the_record_is_plain_json():
    record = json.loads((base_facts().folder / "base.json").read_text())
    assert {"command", "sha256", "scores", "parameters", "versions"} <= set(record)
