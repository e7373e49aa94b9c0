import json

import pytest

from lorascope.errors import DataError, FileError
from lorascope.io.shards import open_zoo
from lorascope.zoo.collect.ingest import import_zoo
from lorascope.zoo.collect.metadata_labels import LEAKS, leak_of, metadata_labels
from tests.inspect.files import METADATA, write_kohya, write_peft


@pytest.fixture
def collection(tmp_path):
    for place in range(4):
        told = {
            "ss_learning_rate": ["1e-4", "2e-4", "5e-5", "None"][place],
            "ss_optimizer": "AdamW" if place % 2 else "Lion",
            "ss_session_id": f"run-{place // 2}",
            "ss_seed": str(place),
            "ss_output_name": f"dog-{place}",
            "ss_lr_scheduler": f"odd-{place}",
            "sshs_model_hash": "abc",
        }
        write_kohya(tmp_path / "in" / f"{place}.safetensors", metadata=told, seed=place)
    return tmp_path / "in"


def test_fields_become_labels_and_leaks_do_not(collection):
    found = metadata_labels(collection)
    assert {t.name: t.kind for t in found.table.targets} == {
        "learning_rate": "regression",
        "optimizer": "multiclass",
    }
    assert found.table.labels["learning_rate"] == [1e-4, 2e-4, 5e-5, None]
    assert found.table.labels["optimizer"] == ["Lion", "AdamW", "Lion", "AdamW"]
    assert {
        "ss_session_id",
        "ss_seed",
        "ss_output_name",
        "sshs_model_hash",
        "ss_tag_frequency",
    } <= (found.leaks.keys())
    assert found.left_out["ss_network_dim"] == "it is the same everywhere"
    assert "names the file" in found.left_out["ss_lr_scheduler"]
    assert found.grouped_by == "ss_session_id"
    assert found.table.groups == ("run-0", "run-0", "run-1", "run-1")


def test_what_begins_with_a_dot_is_passed_over(collection):
    before = metadata_labels(collection).table.labels
    (collection / "._0.safetensors").write_bytes(b"Mac OS X")
    write_kohya(collection / ".trash" / "9.safetensors", metadata={"ss_learning_rate": "3"})
    assert metadata_labels(collection).table.labels == before


def test_the_files_are_those_that_a_folder_is_looked_through_for(collection, tmp_path):
    told = {"ss_learning_rate": "3e-4"}
    known = collection / "author" / "pytorch_lora_weights.safetensors"
    write_kohya(known, metadata=told, seed=5)
    write_kohya(known.with_name("other.safetensors"), metadata=told, seed=6)
    write_kohya(collection / "OLD.SAFETENSORS", metadata=told, seed=7)
    write_kohya(tmp_path / "else" / "linked.safetensors", metadata=told, seed=8)
    (collection / "link").symlink_to(tmp_path / "else", target_is_directory=True)
    assert set(metadata_labels(collection).table.files) == {
        *(f"{place}.safetensors" for place in range(4)),
        "OLD.SAFETENSORS",
        "author/other.safetensors",
        "author/pytorch_lora_weights.safetensors",
        "link/linked.safetensors",
    }


def test_files_without_fields_are_told(collection, tmp_path):
    write_kohya(collection / "mute.safetensors", metadata=dict.fromkeys(METADATA), seed=9)
    (collection / "page.safetensors").write_bytes(b"<html>")
    found = metadata_labels(collection)
    assert found.silent == ("mute.safetensors", "page.safetensors")
    warnings = import_zoo(collection, "metadata", tmp_path / "zoo").warnings
    assert any("2 files hold no training fields" in warning for warning in warnings)


def test_a_zoo_is_made_of_them(collection, tmp_path):
    made = import_zoo(collection, "metadata", tmp_path / "zoo")
    assert made.taken == 4
    assert any("ss_seed would leak" in warning for warning in made.warnings)
    zoo = open_zoo(tmp_path / "zoo")
    assert set(zoo.targets) == {"learning_rate", "optimizer"}
    assert sorted(set(zoo.groups())) == ["run-0", "run-1"]
    # the same input resumes, a changed one does not
    assert import_zoo(collection, "metadata", tmp_path / "zoo").taken == 4
    with pytest.raises(DataError, match="expected neither"):
        import_zoo(collection, "metadata", tmp_path / "other", group="x")


def test_pefts_configuration_gives_labels(tmp_path):
    for place, dropout in enumerate([0.0, 0.1, 0.1]):
        write_peft(tmp_path / f"a{place}", lora_dropout=dropout, task_type="X", r=2)
    (tmp_path / "a0" / "adapter_config.json").write_text("[" * 100_000)
    (tmp_path / "a3").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"<html>")
    write_peft(tmp_path / "deep" / "er", lora_dropout=0.5)
    found = metadata_labels(tmp_path)
    assert found.table.labels["peft_lora_dropout"] == [0.1, 0.1, 0.5]
    assert "peft.base_model_name_or_path" in found.leaks
    assert found.table.groups is None


def test_nothing_to_predict_is_an_error(tmp_path):
    write_kohya(tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="none of which differs"):
        metadata_labels(tmp_path)
    with pytest.raises(FileError, match="no folder"):
        metadata_labels(tmp_path / "gone")


@pytest.mark.parametrize(
    ("field", "leaks"),
    [
        ("ss_learning_rate", False),
        ("ss_unet_lr", False),
        ("ss_steps", False),
        ("ss_network_dim", False),
        ("peft.lora_alpha", False),
        ("ss_optimizer", False),
        ("ss_session_id", True),
        ("sshs_legacy_hash", True),
        ("ss_tag_frequency", True),
        ("ss_training_started_at", True),
        ("modelspec.title", True),
        ("modelspec.hash_sha256", True),
        ("ss_dataset_dirs", True),
        ("ss_num_train_images", False),
        ("peft.base_model_name_or_path", True),
    ],
)
def test_what_leaks_is_known(field, leaks):
    assert (leak_of(field) is not None) == leaks


def test_reasons_are_sentences():
    assert all(len(reason.split()) > 3 for reason in LEAKS.values())
    json.dumps(dict(LEAKS))
