"""The folder is that of a standard pipeline and CLIP; the loader checks what it reads."""

import json
import shutil

import pytest
import torch

from lorascope.errors import FileError, IntegrityError
from lorascope.zoo.bases.faces import folder as faces
from lorascope.zoo.bases.faces.folder import (
    FACES,
    UNET,
    faces_folder,
    load_faces,
    weights_of,
    write_unet,
)
from lorascope.zoo.bases.faces.sampler import GUIDANCE, STEPS, decode, sample, single
from lorascope.zoo.bases.faces.unet import new_unet

pytestmark = [
    # diffusers 0.42 with numpy 2, and what it says of its own pipelines
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning"),
]


def test_a_plain_pipeline_loads_and_draws_what_the_base_draws(brief_folder, brief_base):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(brief_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.unet.dtype == pipeline.text_encoder.dtype == pipeline.vae.dtype == torch.float32
    noise = torch.randn(1, 4, 8, 8)
    prompt = "a photo of a smiling woman with hat"
    expected = pipeline(
        prompt, latents=noise, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="pt"
    ).images
    assert expected.shape == (1, 3, 32, 32)
    ids = brief_base.tokenizer([prompt, ""], padding="max_length", return_tensors="pt").input_ids
    text, empty = brief_base.text_encoder(ids)[0].split(1)
    latents = sample(single(brief_base.unet, text, empty), noise)
    assert torch.allclose((decode(latents, brief_base.vae) + 1) / 2, expected, atol=1e-4)


def test_a_plain_clip_loads_with_its_processor(brief_folder, brief_base):
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    clip = CLIPModel.from_pretrained(brief_folder / "clip", local_files_only=True)
    processor = CLIPProcessor.from_pretrained(brief_folder / "clip", local_files_only=True)
    picture = Image.new("RGB", (32, 32), (255, 0, 0))
    asked = processor(text=["a hat"], images=[picture], return_tensors="pt")
    assert float(asked.pixel_values.amax()) == pytest.approx(
        1
    )  # the [-1, 1] that it was trained on
    assert torch.isfinite(clip(**asked).logits_per_image).all()
    tower = clip.text_model(input_ids=asked.input_ids).last_hidden_state
    assert torch.allclose(brief_base.text_encoder(asked.input_ids)[0], tower, atol=1e-6)


def test_everything_is_frozen_and_single(brief_base):
    for part in (brief_base.unet, brief_base.vae, brief_base.text_encoder, brief_base.clip):
        assert not part.training
        assert {(p.dtype, p.requires_grad) for p in part.parameters()} == {(torch.float32, False)}


def test_other_weights_than_recorded_are_refused(brief_folder, tmp_path):
    copy = shutil.copytree(brief_folder, tmp_path / "copy")
    with (copy / UNET).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(IntegrityError, match="unet"):
        load_faces(copy)


def test_weights_are_recorded_one_by_one(brief_folder):
    recorded = json.loads((brief_folder / "base.json").read_text())["weights"]
    assert recorded == weights_of(brief_folder)
    assert set(recorded) == {
        "clip/model.safetensors",
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_a_lone_unet_is_completed_once(brief_folder, tmp_path, monkeypatch):
    bundle = tmp_path / "bundle"
    shutil.copytree(brief_folder, bundle / "faces")
    torch.manual_seed(9)
    write_unet(bundle / "faces-second", new_unet())
    facts = json.loads((brief_folder / "base.json").read_text())
    facts["sha256"] = faces.sha256_of(bundle / "faces-second" / UNET)
    (bundle / "faces-second" / "base.json").write_text(json.dumps(facts))
    monkeypatch.setattr(faces, "_bundled", lambda name: bundle / name)
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "home"))
    whole = faces_folder("faces-second")
    assert whole.is_relative_to(tmp_path / "home" / "bases")
    assert faces_folder("faces-second") == whole
    assert [path.name for path in whole.parent.iterdir()] == [whole.name]
    assert (whole / "model_index.json").is_file()
    base, first = load_faces(whole), load_faces(bundle / "faces")
    assert not torch.equal(base.unet.conv_in.weight, first.unet.conv_in.weight)
    assert torch.equal(base.vae.decoder.conv_in.weight, first.vae.decoder.conv_in.weight)


def test_an_unknown_base_is_refused():
    with pytest.raises(FileError, match="faces-second"):
        faces_folder("fases")


@pytest.mark.parametrize("name", FACES)
def test_the_bundled_bases_share_all_but_the_unet(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    base, first = load_faces(name), load_faces()
    assert torch.equal(base.vae.decoder.conv_in.weight, first.vae.decoder.conv_in.weight)
    same = torch.equal(base.unet.conv_in.weight, first.unet.conv_in.weight)
    assert same == (name == "faces")
    recorded = json.loads((base.folder / "base.json").read_text())
    if name == "faces-second":  # trained on: near, and by at least 30 % of the first's steps
        assert recorded["trained_on_from"] == first.facts.sha256
        assert recorded["steps"] >= 0.3 * 2700
        assert 0.02 < recorded["weight_distance"] < 0.8
    if name == "faces-control":  # as far as weights of another seed are
        assert recorded["weight_distance"] > 1
