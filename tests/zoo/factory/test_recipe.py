import json

import pytest
import torch

from lorascope.errors import DataError, FileError
from lorascope.zoo.engine.image.engine import ImageEngine
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.factory.recipe import (
    base_digest,
    named_dtype,
    recipe_digest,
    recipe_of,
    usual_dtype,
    zoo_folder,
)
from lorascope.zoo.families.faces.family import FacesFamily
from lorascope.zoo.families.image_labels import OWN_SAMPLES
from tests.zoo.planted_family import PlantedFamily


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def make(folder, **changes):
    family = PlantedFamily(folder, **changes)
    return recipe_of(family, dtype=torch.bfloat16, slots=64)


def test_the_digest_names_everything_that_decides(folder):
    recipe = make(folder)
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe_digest(recipe) == recipe_digest(make(folder))
    assert recipe_digest(recipe) != recipe_digest(make(folder, seed=1))
    (folder / "model.safetensors").write_bytes(b"others")
    assert recipe_digest(recipe) != recipe_digest(make(folder))


def test_jobs_of_a_lane_are_named_where_they_are_not_four(folder):
    family = PlantedFamily(folder)
    assert "per_lane" not in make(folder)["engine"]
    made = recipe_of(family, dtype=torch.float32, slots=64, per_lane=2)
    assert made["engine"] == {"dtype": "float32", "slots": 64, "per_lane": 2}
    faces = recipe_of(FacesFamily({"seed": 0}), dtype=torch.float32, slots=64)
    assert faces["engine"]["per_lane"] == ImageEngine.per_lane
    assert faces["options"]["own_samples"] == OWN_SAMPLES


def test_zoos_live_at_home(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    recipe = make(folder)
    assert zoo_folder(recipe) == tmp_path / "zoos" / f"planted-{recipe_digest(recipe)}"


def test_a_folder_that_is_no_base_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"no \*\.safetensors"):
        base_digest(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileError, match=r"no config\.json"):
        base_digest(folder)


def test_a_zoo_does_not_depend_on_the_processor():
    assert usual_dtype() == usual_dtype("cpu") == torch.float32


def test_types_by_name():
    assert named_dtype("float32") == torch.float32
    with pytest.raises(DataError, match="found the type 'int8', expected float32 or bfloat16"):
        named_dtype("int8")


def test_the_digest_of_a_pipeline_counts_every_part(tmp_path):
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
        (tmp_path / part / "model.safetensors").write_bytes(b"weights")
    before = base_digest(tmp_path)
    (tmp_path / "vae" / "model.safetensors").write_bytes(b"others")
    assert base_digest(tmp_path) != before


def test_the_digest_is_of_what_is_read(tmp_path):
    """Whatever else of a model's files was fetched beside, and into the Hub's cache later."""
    for part in ("unet", "vae", "text_encoder", "safety_checker"):
        name = "diffusion_pytorch_model" if part in ("unet", "vae") else "model"
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
        if part != "safety_checker":
            (tmp_path / part / f"{name}.safetensors").write_bytes(b"weights")
    before = base_digest(tmp_path)
    (tmp_path / "safety_checker" / "model.safetensors").write_bytes(b"checks")
    (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    (tmp_path / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"raw")
    (tmp_path / "text_encoder" / "model.fp16.safetensors").write_bytes(b"half")
    assert base_digest(tmp_path) == before
    (tmp_path / "text_encoder" / "model.safetensors").write_bytes(b"others")
    assert base_digest(tmp_path) != before


def test_the_digest_of_several_files_is_of_those_that_their_index_names(folder):
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in (*names, "consolidated.safetensors"):
        (folder / name).write_bytes(name.encode())
    all_of_them = base_digest(folder)  # without an index nobody knows
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
    named = base_digest(folder)
    assert named != all_of_them
    (folder / "consolidated.safetensors").write_bytes(b"others")
    assert base_digest(folder) == named
    (folder / names[1]).write_bytes(b"others")
    assert base_digest(folder) != named
    index.write_text("{}")
    with pytest.raises(FileError, match="is no index of weights"):
        base_digest(folder)


def test_half_precision_names_its_exact_steps(folder):
    family = PlantedFamily(folder)
    assert make(folder)["engine"]["exact_steps"] == LanguageEngine.exact_steps
    plain = recipe_of(family, dtype=torch.float32, slots=64)
    before = recipe_of(family, dtype=torch.bfloat16, slots=64, exact_steps=0)
    assert list(plain["engine"]) == list(before["engine"]) == ["dtype", "slots"]
