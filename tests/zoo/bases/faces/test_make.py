"""Making the bases: what is recorded, and that later ones hold a UNet alone."""

import json

import pytest
import torch

from lorascope.zoo.bases.bundled import base_facts
from lorascope.zoo.bases.faces.make import distance, make_control, make_second
from lorascope.zoo.bases.faces.unet import new_unet
from tests.zoo.brief_faces import BRIEF


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_first_base_is_whole_and_scored(brief_folder):
    facts = base_facts(brief_folder)
    assert facts.command == "python -m lorascope.zoo.bases.faces first FOLDER --seed 3"
    assert {"clip_score", "denoising_loss", "vae_l1", "retrieval", "classes"} <= set(facts.scores)
    assert sum(name.startswith("probe:") for name in facts.scores) == 12
    assert sum(name.startswith("told:") for name in facts.scores) == 12


@pytest.mark.parametrize("make", [make_second, pytest.param(make_control, marks=pytest.mark.slow)])
def test_later_bases_hold_a_unet_alone(brief_folder, tmp_path, make):
    facts = make(tmp_path / "later", brief_folder, seed=4, sizes=BRIEF)
    assert files(facts.folder) == {
        "base.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }
    said = json.loads((facts.folder / "base.json").read_text())
    assert "_name_or_path" not in (facts.folder / "unet" / "config.json").read_text()
    near = make is make_second
    assert (said["weight_distance"] < 0.2) == near
    assert set(said["score_change"]) == set(facts.scores)
    assert said["steps"] == (BRIEF.later_steps if near else BRIEF.unet_steps)


def test_the_distance_is_relative():
    torch.manual_seed(0)
    unet = new_unet()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    assert distance(before, unet) == 0
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.1)
    assert distance(before, unet) == pytest.approx(0.1, abs=1e-3)
