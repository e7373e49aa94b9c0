"""Zoos of CelebA and Imagenette from end to end on stand-ins of their folders."""

import pickle

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.bases.faces.similarity import clip_score, fidelity
from lorascope.zoo.engine.fitted import untrained
from lorascope.zoo.engine.image.base import layout_of
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families.celeba import CelebaFamily
from lorascope.zoo.families.imagenette import ImagenetteFamily
from lorascope.zoo.families.pipeline.family import GUIDANCE, _noise
from lorascope.zoo.families.pipeline.photographs import read_pictures
from lorascope.zoo.families.pipeline.prompts import PROMPTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning"),
]
QUICK = {"processes": 0, "progress": False, "compile": False, "dtype": torch.float32}


@pytest.fixture(scope="module")
def family(diffusion_folder, celeba_folder, clip_folder):
    ranges = {"steps": {"choice": [20]}}
    return CelebaFamily(
        diffusion_folder,
        celeba_folder,
        clip_folder,
        photographs=3,
        ranges=ranges,
        steps=2,
        own_samples=2,
    )


def test_a_zoo_of_celebrities(family, tmp_path):
    zoo = build_zoo(family, 3, tmp_path, **QUICK)
    assert len(zoo) == 3
    names = {name.rsplit(".", 1)[-1] for name in zoo.lora(0).layers}
    assert names == {"to_q", "to_v"}
    assert zoo.targets["attributes"]["classes"][0] == "Male"
    assert all(torch.isfinite(torch.tensor(zoo.labels("clip_score").astype(float))))
    again = zoo.index.column("label:fidelity_again").to_pylist()
    assert again[0] is not None
    assert again[1] is None
    assert zoo.report["loras"] == 3


def test_a_zoo_of_classes(diffusion_folder, imagenette_folder, clip_folder, tmp_path):
    ranges = {"steps": {"choice": [5]}}
    family = ImagenetteFamily(diffusion_folder, imagenette_folder, clip_folder, ranges=ranges)
    zoo = build_zoo(family, 3, tmp_path, **QUICK)
    assert set(zoo.targets) == {"classes", "dataset_size"}
    assert zoo.labels("classes")[0].tolist() == family.present(0)


def test_scores_of_the_base_are_those_of_the_pipeline(family, diffusion_folder):
    """An untrained adapter gains nothing; its samples are those of diffusers."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    base = family.engine.load(diffusion_folder, torch.float32, False)
    alone = untrained(family.spec, layout_of(base, [family.spec]))
    (row,) = family.evaluate(base, alone, [0])
    assert row["clip_score_gain"] == pytest.approx(0, abs=1e-5)
    assert row["fidelity_gain"] == pytest.approx(0, abs=1e-5)
    pipeline = StableDiffusionPipeline.from_pretrained(diffusion_folder, local_files_only=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", use_karras_sigmas=False
    )
    pipeline.set_progress_bar_config(disable=True)
    asked = [*PROMPTS, *[family.word(0)] * 2]
    drawn = pipeline(
        asked,
        latents=_noise(35, (4, 8, 8), 0),
        num_inference_steps=family.steps,
        guidance_scale=GUIDANCE,
        output_type="pt",
    ).images
    features = family.parts.features(2 * drawn - 1)
    score = clip_score(features[:33], family.parts.wanted(PROMPTS))
    assert row["clip_score"] == pytest.approx(float(score), abs=0.05)
    shown = family.parts.features(read_pictures(family.files(0), 16))
    assert row["fidelity"] == pytest.approx(float(fidelity(features[33:], shown)), abs=0.05)


def test_a_family_travels_without_what_it_loaded(family):
    assert family.parts is family.parts
    again = pickle.loads(pickle.dumps(family))
    assert "parts" not in vars(again)
    assert "_before" not in vars(again)
    assert again.options == family.options
    assert torch.equal(again.job(1).latents, family.job(1).latents)


def test_unknown_ranges(diffusion_folder, celeba_folder, clip_folder):
    with pytest.raises(DataError, match=r"a zoo of celeba: found ranges of \['rank'\]"):
        CelebaFamily(diffusion_folder, celeba_folder, clip_folder, ranges={"rank": 2})
