"""Sampling: that of a StableDiffusionPipeline, alone or many at once."""

import pytest
import torch

from lorascope.zoo.bases.faces.sampler import GUIDANCE, STEPS, decode, sample, single
from lorascope.zoo.bases.faces.unet import new_scheduler, new_unet
from lorascope.zoo.bases.faces.vae import new_vae


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    return new_unet().eval(), new_vae().eval(), torch.randn(2, 22, 64), torch.randn(1, 22, 64)


# diffusers 0.42 with numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_sampler_is_the_pipelines(parts):
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    from lorascope.zoo.bases.faces.clip import new_clip
    from lorascope.zoo.bases.faces.tokenizer import new_tokenizer

    unet, vae, text, empty = parts
    tokenizer = new_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(new_clip(tokenizer).config.text_config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 4, 8, 8)
    expected = pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=empty.expand(2, -1, -1),
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        output_type="pt",
    ).images
    ours = decode(sample(single(unet, text, empty), noise), vae)
    assert torch.allclose((ours + 1) / 2, expected, atol=1e-4)


def test_many_at_once_equal_each_alone(parts):
    unet, vae, text, empty = parts
    alone = single(unet, text, empty)

    def predict(latents, time):  # (g, b, c, h, w)
        return torch.stack([alone(part, time) for part in latents])

    noise = torch.randn(3, 2, 4, 8, 8)
    together = decode(sample(predict, noise), vae)
    assert together.shape == (3, 2, 3, 32, 32)
    one = decode(sample(alone, noise[1]), vae)
    assert torch.allclose(together[1], one, atol=1e-5)
