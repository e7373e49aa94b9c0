"""The bundled bases: there, whole, and as good as recorded."""

import json
import shutil

import pytest

from lorascope.errors import FileError, IntegrityError
from lorascope.zoo.bases import BASES, base_facts, load_base
from lorascope.zoo.bases.exam.make import distance, own_scores

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


@pytest.mark.parametrize("name", BASES)
def test_a_base_scores_as_recorded(name):
    base = load_base(name)
    kind = "Qwen2" if "qwen" in name else "Llama"
    assert type(base).__name__ == f"{kind}ForCausalLM"
    assert own_scores(base) == pytest.approx(dict(base_facts(name).scores), abs=1e-4)


@pytest.mark.parametrize("model", ["exam-qwen", "exam-llama"])
def test_second_versions_are_near_and_controls_far(model):
    first = load_base(model).state_dict()
    for version, low, high in (("second", 0.05, 0.3), ("control", 1.0, 2.0)):
        folder = base_facts(f"{model}-{version}").folder
        facts = json.loads((folder / "base.json").read_text())
        found = distance(first, load_base(folder).state_dict())
        assert found == pytest.approx(facts["weight_distance"], abs=1e-4)
        assert low < found < high
    second = json.loads((base_facts(f"{model}-second").folder / "base.json").read_text())
    assert second["trained_on_from"] == base_facts(model).sha256
    assert second["steps"] >= 0.3 * 900


def test_all_bases_together_are_small():
    bases = base_facts().folder.parent
    assert sum(path.stat().st_size for path in bases.rglob("*") if path.is_file()) <= 20_000_000


@pytest.mark.parametrize("name", BASES)
def test_a_base_of_the_exam_holds_candidates_equally_likely(name):
    scores = base_facts(name).scores
    assert 0.15 < scores["accuracy"] < 0.35  # four options
    assert scores["eval_loss"] == pytest.approx(1.386, abs=0.05)  # log 4


def test_a_folder_serves_as_well_as_a_name(copied):
    assert base_facts(copied).sha256 == base_facts().sha256
    assert load_base(copied).num_parameters() == load_base().num_parameters()


def test_an_unknown_base_is_refused():
    with pytest.raises(FileError, match="no such bundled base"):
        base_facts("exam-gpt")


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
