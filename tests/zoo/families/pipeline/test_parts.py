import json
import shutil

import pytest
import torch

from lorascope.errors import DataError, FileError
from lorascope.zoo.families.pipeline.parts import Sizes, clip_digest, load_parts, sizes_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def parts(diffusion_folder, clip_folder):
    return load_parts(diffusion_folder, clip_folder)


def test_sizes_follow_from_the_folder(diffusion_folder):
    assert sizes_of(diffusion_folder) == Sizes(channels=4, latent=8, picture=16)
    assert sizes_of(diffusion_folder).latents == (4, 8, 8)


def test_parts_compute_what_the_pipeline_does(parts, diffusion_folder):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(diffusion_folder, local_files_only=True)
    prompts = ["a photo of a house", "skd"]
    expected, empty = pipeline.encode_prompt(prompts, "cpu", 1, True)
    assert torch.allclose(parts.texts(prompts), expected, atol=1e-5)
    assert torch.allclose(parts.texts(["", ""]), empty, atol=1e-5)
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    latents = parts.encode(pictures)
    assert latents.shape == (2, 4, 8, 8)
    means = pipeline.vae.encode(pictures).latent_dist.mean * pipeline.vae.config.scaling_factor
    assert torch.allclose(latents, means, atol=1e-5)
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    assert torch.allclose(parts.decode(latents), decoded.clamp(-1, 1), atol=1e-5)


def test_features_are_those_of_the_processor(parts, clip_folder):
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPModel

    clip = CLIPModel.from_pretrained(clip_folder, local_files_only=True)
    processor = CLIPImageProcessor.from_pretrained(clip_folder, local_files_only=True)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), (16, 16), mode="bicubic")
    numbers = smooth[0].clamp(0, 1).mul(255).round().byte()
    image = Image.fromarray(numbers.permute(1, 2, 0).numpy())
    seen = processor(images=[image], return_tensors="pt").pixel_values
    pooled = clip.vision_model(pixel_values=seen).pooler_output
    expected = torch.nn.functional.normalize(clip.visual_projection(pooled), dim=-1)
    found = parts.features(numbers[None].float() / 127.5 - 1)
    assert torch.allclose(found, expected, atol=0.02)
    assert parts.wanted(["a", "b"]).norm(dim=-1).tolist() == pytest.approx([1, 1])


def test_no_bar_of_the_libraries_is_shown(diffusion_folder, clip_folder, capsys):
    load_parts(diffusion_folder, clip_folder)
    assert capsys.readouterr() == ("", "")


def test_parts_move(parts):
    assert parts.to(torch.device("cpu")).texts(["a"]).shape == (1, 77, 16)


def test_what_is_missing_is_said(diffusion_folder, clip_folder, tmp_path):
    with pytest.raises(FileError, match="Expected the folder of a StableDiffusionPipeline"):
        sizes_of(tmp_path)
    with pytest.raises(FileError, match=r"there is no scheduler/ in it"):
        load_parts(tmp_path, clip_folder)
    with pytest.raises(FileError, match=r"loading CLIP from .*openai/clip-vit-base-patch16"):
        load_parts(diffusion_folder, tmp_path)
    broken = shutil.copytree(diffusion_folder, tmp_path / "broken")
    shutil.rmtree(broken / "vae")
    with pytest.raises(FileError, match="Expected the folder of a StableDiffusionPipeline"):
        load_parts(broken, clip_folder)


def test_the_digest_of_clip(clip_folder, tmp_path):
    assert len(clip_digest(clip_folder)) == 64
    with pytest.raises(FileError, match="found no weights"):
        clip_digest(tmp_path)


def test_another_schedule_is_refused(diffusion_folder, clip_folder, tmp_path):
    other = shutil.copytree(diffusion_folder, tmp_path / "other")
    file = other / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "beta_end": 0.02}))
    with pytest.raises(DataError, match="not that of Stable Diffusion 1"):
        load_parts(other, clip_folder)
