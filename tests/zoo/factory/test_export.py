"""An exported adapter, loaded by plain transformers and peft, has the scores that the zoo stored."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorascope.errors import FileError
from lorascope.io import read_lora
from lorascope.zoo.bases.bundled import base_facts
from lorascope.zoo.factory.export import export_peft
from lorascope.zoo.factory.restore import family_of
from lorascope.zoo.families.published import PUBLISHED
from tests.zoo.factory import faces_by_hand
from tests.zoo.factory.planted_zoo import planted_recipe, write_planted


@pytest.fixture
def zoo(exam_zoo):
    return exam_zoo


def test_the_folder_names_base_and_labels(zoo, tmp_path):
    folder = export_peft(zoo, 3, tmp_path / "a")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base_facts("exam-qwen").folder)
    assert "# LoRA 3 of zoo" in (folder / "README.md").read_text()
    stored = zoo.lora(3)
    again = read_lora(folder)
    assert set(again) == set(stored)
    for name in stored:
        torch.testing.assert_close(again[name].dense(), stored[name].dense())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_answers_the_exam_as_the_zoo_says(zoo, tmp_path):
    from lorascope.zoo.families.exam.by_hand import exam_base, scores_by_hand

    base = exam_base()
    for identity in (0, 5):
        folder = export_peft(zoo, identity, tmp_path / str(identity))
        scores = scores_by_hand(base, folder)
        assert scores["accuracy"] == pytest.approx(zoo.labels("accuracy")[identity], abs=0.01)
        assert scores["eval_loss"] == pytest.approx(zoo.labels("eval_loss")[identity], rel=1e-4)


def test_a_base_may_be_named(tmp_path):
    zoo = write_planted(tmp_path / "zoo")
    bundled = str(base_facts("exam-llama").folder)
    pairs = ("someone/tiny", "someone/tiny"), ("exam-llama", bundled), (None, "tiny")
    for place, (given, named) in enumerate(pairs):
        folder = export_peft(zoo, 7, tmp_path / f"out-{place}", base=given)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == named
    assert "| maker | b |" in (folder / "README.md").read_text()
    assert "| topics | odd, big |" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("base", "named"), [("tiny", "CompVis/tiny"), ("my-diffusion", "tiny")], ids=["its", "another"]
)
def test_the_papers_base_is_named_as_the_hub_names_it(base, named, tmp_path, monkeypatch):
    """Nobody else's `from_pretrained` finds a folder's name."""
    recipe = PUBLISHED["celeba-sd14"]
    known = replace(recipe, base=replace(recipe.base, name=f"CompVis/{base}"))
    monkeypatch.setattr("lorascope.zoo.families.published.PUBLISHED", {"celeba-sd14": known})
    zoo = write_planted(tmp_path / "zoo", recipe=planted_recipe(family="celeba-sd14"))
    folder = export_peft(zoo, 7, tmp_path / "out")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == named
    assert f'base_model: "{named}"' in (folder / "README.md").read_text()


def test_what_stands_in_a_folder_is_left_alone(tmp_path):
    zoo = write_planted(tmp_path / "zoo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("thesis")
    with pytest.raises(FileError, match="new or empty folder"):
        export_peft(zoo, 7, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["README.md"]
    (tmp_path / "empty").mkdir()
    assert (export_peft(zoo, 7, tmp_path / "empty") / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    "options",
    [{"dora": True}, {"rank": 8, "rslora": True, "targets": ["q_proj", "o_proj", "up_proj"]}],
    ids=["dora", "rslora"],
)
def test_other_adapters_have_their_stored_scores_too(tmp_path, options):
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.families import ExamFamily
    from lorascope.zoo.families.exam.by_hand import exam_base, scores_by_hand

    family = ExamFamily(4, adapters=options)
    zoo = build_zoo(
        family, 2, tmp_path / "z", processes=0, compile=False, progress=False, dtype=torch.float32
    )
    assert family_of(zoo.recipe).spec == family.spec
    scores = scores_by_hand(exam_base(), export_peft(zoo, 1, tmp_path / "a"))
    assert scores["accuracy"] == pytest.approx(zoo.labels("accuracy")[1], abs=0.01)
    assert scores["eval_loss"] == pytest.approx(zoo.labels("eval_loss")[1], rel=1e-4)


# diffusers 0.42 with numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_diffusers_and_peft_draw_what_the_zoo_scored(faces_zoo, tmp_path):
    folder = export_peft(faces_zoo, 1, tmp_path / "a")
    scores = faces_by_hand.scores_by_hand(family_of(faces_zoo.recipe), 1, folder)
    for name, found in scores.items():
        assert found == pytest.approx(faces_zoo.labels(name)[1], abs=1e-3), name


def test_a_base_that_is_completed_is_written_and_one_that_cannot_be_is_told(
    second_zoo, tmp_path, monkeypatch
):
    config = export_peft(second_zoo, 0, tmp_path / "a") / "adapter_config.json"
    named = Path(json.loads(config.read_text())["base_model_name_or_path"])
    assert (named / "model_index.json").is_file()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "file"))
    with pytest.raises((FileError, OSError)):
        export_peft(second_zoo, 0, tmp_path / "b")
    assert not (tmp_path / "b").exists()


CONVOLUTIONS = ["to_q", "to_v", "conv1", "conv2"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("adapters", "shipped", "apart"),
    [
        ({"targets": CONVOLUTIONS}, False, 1e-3),
        ({"dora": True}, False, 1e-3),
        ({"rank": 8, "rslora": True, "targets": ["to_k", "to_out.0"]}, False, 1e-3),
        ({}, True, 0.5),  # what bfloat16 and its kernels round; scores deviate by about 3
    ],
    ids=["conv", "dora", "rslora", "shipped"],
)
def test_other_adapters_of_images_have_their_stored_scores_too(tmp_path, adapters, shipped, apart):
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.families import FacesFamily

    recipe = {"seed": 6, "adapters": adapters, "ranges": {"steps": {"choice": [20]}}}
    family = FacesFamily(recipe)
    how = {"compile": True} if shipped else {"compile": False, "dtype": torch.float32}
    zoo = build_zoo(family, 2, tmp_path / "z", processes=0, progress=False, **how)
    folder = export_peft(zoo, 1, tmp_path / "a")
    scores = faces_by_hand.scores_by_hand(family_of(zoo.recipe), 1, folder)
    for name, found in scores.items():
        assert found == pytest.approx(zoo.labels(name)[1], abs=apart), name
