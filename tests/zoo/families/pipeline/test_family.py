"""Zoos of CelebA and Imagenette from end to end on stand-ins of their folders."""

import importlib
import pickle
import shutil

import pytest
import torch

from lorascope.errors import DataError
from lorascope.io import open_zoo
from lorascope.zoo.bases.faces.similarity import clip_score, fidelity
from lorascope.zoo.engine.fitted import untrained
from lorascope.zoo.engine.image.base import layout_of
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.factory.log import build_events, failures_of
from lorascope.zoo.factory.verify import verify_zoo
from lorascope.zoo.families.celeba import CelebaFamily
from lorascope.zoo.families.imagenette import ImagenetteFamily
from lorascope.zoo.families.pipeline.family import GUIDANCE, SAMPLED, _noise
from lorascope.zoo.families.pipeline.photographs import read_pictures
from lorascope.zoo.families.pipeline.prompts import PROMPTS
from tests.zoo.families.example import run_example
from tests.zoo.stand_ins import write_picture

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


@pytest.mark.slow  # samples of three LoRAs, by workers that compile
def test_the_example_of_the_docs_runs(diffusion_folder, clip_folder, tmp_path):
    data, out = tmp_path / "pets", tmp_path / "my-pets"
    for index in range(3):
        for picture in range(2):
            write_picture(data / str(index) / f"{picture}.jpg", 10 * index + picture)
    (data / "1" / "cat").touch()
    run_example("own_pictures", tmp_path, diffusion_folder, data, clip_folder, out)
    zoo = open_zoo(out)
    assert zoo.column("id").tolist() == [0, 1, 2]
    assert zoo.labels("cat").tolist() == [0, 1, 0]
    assert set(zoo.targets) == {"cat", *SAMPLED}
    assert all(torch.isfinite(torch.tensor(zoo.labels("fidelity_gain").astype(float))))
    assert zoo.lora(0).max_rank == 8
    assert set(zoo.groups()) == {"0", "1", "2"}
    assert verify_zoo(out).sound


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


SOURCE = """
from lorascope.zoo.families.pipeline.family import PipelineFamily


class Pets(PipelineFamily):
    kind, words = "pets", ("{word}",)
"""


def test_the_recipe_of_a_class_of_ones_own_holds_its_source(family, tmp_path, monkeypatch):
    """Other words make other LoRAs: they are not to go on in the same zoo."""
    assert "class_sha256" not in family.options  # the package's own have their version
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for name, word in (("pets_a", "skd"), ("pets_b", "skd"), ("pets_c", "dog")):
        (tmp_path / f"{name}.py").write_text(SOURCE.format(word=word))
        kind = importlib.import_module(name).Pets
        pets = kind(family.base_folder, tmp_path, family.clip, sampled=False)
        digests.append(pets.options["class_sha256"])
    assert digests[0] == digests[1] != digests[2]
    nowhere = type("Pets", (CelebaFamily,), {"__module__": "nowhere"})
    with pytest.raises(DataError, match="Try a class that stands in a file"):
        _ = nowhere(family.base_folder, family.data, family.clip).options


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


def test_a_bad_photograph_is_recorded_and_skipped(
    diffusion_folder, celeba_folder, clip_folder, tmp_path
):
    data = shutil.copytree(celeba_folder, tmp_path / "celeba")
    options = {"photographs": 3, "ranges": {"steps": {"choice": [2]}}, "sampled": False}
    family = CelebaFamily(diffusion_folder, data, clip_folder, **options)
    whole = family.job(1)
    bad = family.files(1)[1]
    bad.write_bytes(bad.read_bytes()[:200])  # a download that broke off
    zoo = build_zoo(family, 3, tmp_path / "zoo", **QUICK)
    assert zoo.column("id").tolist() == [0, 1, 2]
    (event,) = [e for e in build_events(zoo.path) if e["event"] == "skipped"]
    assert event["ids"] == [1]
    assert str(bad) in event["problems"][0]
    assert failures_of(build_events(zoo.path), [0, 1, 2])["skipped"] == [1]
    assert len(family.job(1).latents) == 2
    assert torch.equal(family.job(1).latents, whole.latents[[0, 2]])
    seen = family.celebrities.of(tuple(file.name for file in family.files(1) if file != bad))
    assert family.known_labels(1)["all_attributes"] == (2 * seen.sum(0) >= 2).tolist()
    assert zoo.labels("all_attributes")[1].tolist() == family.known_labels(1)["all_attributes"]


def test_a_lora_without_a_picture_harms_no_other(
    diffusion_folder, imagenette_folder, clip_folder, tmp_path
):
    """It is set apart, told, and made once its pictures are back."""
    data = shutil.copytree(imagenette_folder, tmp_path / "imagenette")
    family = ImagenetteFamily(
        diffusion_folder, data, clip_folder, ranges={"steps": {"choice": [2]}}
    )
    kept = {file: file.read_bytes() for file in family.files(2)}
    for file, content in kept.items():
        file.write_bytes(b"x" * len(content))  # the same sizes: the same data to the recipe
    part = build_zoo(family, 4, tmp_path / "zoo", **QUICK)
    assert part.column("id").tolist() == [0, 1, 3]
    told = failures_of(build_events(part.path), [0, 1, 3])
    assert told["missing"] == [2]
    assert "none is left" in next(iter(told["reasons"]))
    shards = {p: p.read_bytes() for p in (part.path / "shards").iterdir()}
    for file, content in kept.items():
        file.write_bytes(content)
    again = build_zoo(family, 4, tmp_path / "zoo", **QUICK)
    assert again.column("id").tolist() == [0, 1, 2, 3]
    assert {p: p.read_bytes() for p in shards} == shards
    assert verify_zoo(again.path).sound


def test_a_class_whose_picture_is_bad_is_no_label(
    diffusion_folder, imagenette_folder, clip_folder, tmp_path
):
    data = shutil.copytree(imagenette_folder, tmp_path / "imagenette")
    family = ImagenetteFamily(diffusion_folder, data, clip_folder)
    index = next(i for i in range(0, 40, 2) if sum(family.present(i)) > 2)
    file = family.files(index)[0]
    file.write_bytes(b"")
    labels = family.known_labels(index)
    assert labels["dataset_size"] == sum(labels["classes"]) == sum(family.present(index)) - 1
    assert str(file) in family.skipped(index)[0]


def test_latents_that_are_not_finite_are_refused(diffusion_folder, celeba_folder, clip_folder):
    family = CelebaFamily(diffusion_folder, celeba_folder, clip_folder, photographs=3)
    family.parts.vae.quant_conv.bias.fill_(float("nan"))
    with pytest.raises(DataError, match=r"encoding the picture .*\.jpg for LoRA 0 of celeba"):
        family.job(0)
