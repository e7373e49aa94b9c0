"""The standard evaluation at the shapes of Stable Diffusion 1.4, random weights: 33 prompts, 20 steps, CLIP.

    text encoder (prompt and empty) -> 20 guided steps of the UNet at 64 x 64 latents -> VAE -> CLIP ViT-B/16

660 denoised prompts, each with and without its text. Time does not depend on values, so weights are random.
A GPU runs all of it, in both half precisions. A CPU does one step of one prompt in each type, then one call of
each part in the faster, a batch size after another, and they are added up: all steps cost the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speed.clock import Clock
from speed.random_weights import made_in
from speed.standard import Part, Standard, fastest, trial, type_name, types_of

__all__ = ["MINIATURE", "STABLE_DIFFUSION", "ImageShape", "image_standard", "unet_layers"]

GUIDANCE, WORDS = 7.5, 77


@dataclass(frozen=True)
class ImageShape:
    """The configurations of a pipeline, and what is asked of it."""

    name: str
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any]
    clip_text: Mapping[str, Any]
    clip_vision: Mapping[str, Any]
    projection: int
    prompts: int
    steps: int
    batches: Mapping[str, tuple[int, ...]]

    @property
    def what(self) -> str:
        """In words."""
        return f"{self.prompts} prompts x {self.steps} guided steps, VAE, CLIP score"


def tower(width: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    """A transformer's configuration."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **other,
    }


def vae_of(widths: tuple[int, ...], layers: int) -> dict[str, Any]:
    """The decoder's mirror image: a Stable Diffusion VAE of some widths."""
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": layers,
        "latent_channels": 4,
    }


STABLE_DIFFUSION = ImageShape(
    name="Stable Diffusion 1.4",
    unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    vae=vae_of((128, 256, 512, 512), 2),
    text=tower(768, 12, 12),
    clip_text=tower(512, 12, 8),
    clip_vision=tower(768, 12, 12, patch_size=16, image_size=224),
    projection=512,
    prompts=33,
    steps=20,
    batches={"cpu": (1, 2, 4), "cuda": (4, 11, 33)},
)
MINIATURE = ImageShape(
    name="a miniature of Stable Diffusion",
    unet={
        "sample_size": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "block_out_channels": (32, 32, 32, 32),
        "layers_per_block": 1,
    },
    vae=vae_of((32, 32, 32, 32), 1),
    text=tower(32, 1, 2),
    clip_text=tower(32, 1, 2),
    clip_vision=tower(32, 1, 2, patch_size=16, image_size=32),
    projection=16,
    prompts=3,
    steps=2,
    batches={"cpu": (1, 2, 3), "cuda": (1, 2, 3)},
)


def unet_layers(shape: ImageShape, targets: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """(name, n, m) of the UNet's layers that adapters of these targets have, without making its weights."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape.unet)
    return [
        (f"unet.{name}", module.out_features, module.in_features)
        for name, module in unet.named_modules()
        if name.rsplit(".", 1)[-1] in targets
    ]


class Pipeline:
    """The four networks with random weights, and the steps of an evaluation."""

    def __init__(self, shape: ImageShape, device: str, dtype: torch.dtype) -> None:
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

        clip = CLIPConfig(
            text_config=dict(shape.clip_text),
            vision_config=dict(shape.clip_vision),
            projection_dim=shape.projection,
        )
        with made_in(device, dtype):
            self.unet = UNet2DConditionModel(**shape.unet)
            self.vae = AutoencoderKL(**shape.vae)
            self.text_encoder = CLIPTextModel(CLIPTextConfig(**shape.text))
            self.clip = CLIPModel(clip)
        for part in (self.unet, self.vae):
            part.to(memory_format=torch.channels_last)
        for part in (self.unet, self.vae, self.text_encoder, self.clip):
            part.eval().requires_grad_(False)
        self.schedule = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
        self.schedule.set_timesteps(shape.steps, device=device)
        self.shape, self.device, self.dtype = shape, device, dtype

    def ids(self, batch: int) -> Tensor:  # (b, 77)
        """Token ids of some prompts."""
        return torch.full((batch, WORDS), 100, device=self.device)

    def read(self, batch: int) -> Tensor:  # (2 b, 77, w)
        """Hidden states of the empty text and of each prompt."""
        return self.text_encoder(self.ids(2 * batch))[0]

    def step(self, latents: Tensor, time: Tensor, text: Tensor) -> Tensor:
        """One guided step: two passes a prompt, as one batch."""
        noise = self.unet(latents.repeat(2, 1, 1, 1), time, text).sample
        without, with_ = noise.chunk(2)
        guided = without + GUIDANCE * (with_ - without)
        return self.schedule.step(guided, time, latents).prev_sample

    def latents(self, batch: int) -> Tensor:
        """Noise to begin with."""
        size = self.shape.unet["sample_size"]
        return torch.randn(batch, 4, size, size, device=self.device, dtype=self.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, one after another: their activations are large."""
        return torch.cat([self.vae.decode(row).sample for row in latents.split(1)])

    def score(self, pictures: Tensor) -> Tensor:
        """CLIP's similarity of each picture and its prompt."""
        size = self.shape.clip_vision["image_size"]
        small = torch.nn.functional.interpolate(pictures, (size, size), mode="bilinear")
        seen = self.clip(input_ids=self.ids(len(small)), pixel_values=small)
        return seen.logits_per_image.diagonal()

    def evaluate(self, batch: int) -> float:
        """The whole evaluation."""
        scores = []
        for start in range(0, self.shape.prompts, batch):
            count = min(batch, self.shape.prompts - start)
            latents, text = self.latents(count), self.read(count)
            for time in self.schedule.timesteps:
                latents = self.step(latents, time, text)
            scores.append(self.score(self.decode(latents)))
        return float(torch.cat(scores).float().mean())

    def parts(self, batch: int, clock: Clock) -> tuple[Part, ...]:
        """Each part once a batch of prompts, and how often a whole evaluation does it."""
        shape, latents, text = self.shape, self.latents(batch), self.read(batch)
        time = self.schedule.timesteps[0]
        each = shape.prompts / batch
        reading = clock.seconds(lambda: self.read(batch))
        step = clock.seconds(lambda: self.step(latents, time, text))
        return (
            Part("text encoder", reading, each),
            Part("guided step of the UNet", step, each * shape.steps),
        )

    def picture_parts(self, clock: Clock) -> tuple[Part, ...]:
        """What is done for each picture, whatever the batch size."""
        latents = self.latents(1)
        picture, count = self.decode(latents), self.shape.prompts
        return (
            Part("VAE decoder, one picture", clock.seconds(lambda: self.decode(latents)), count),
            Part("CLIP, one picture", clock.seconds(lambda: self.score(picture)), count),
        )


@torch.inference_mode()
def image_standard(
    clock: Clock, shape: ImageShape = STABLE_DIFFUSION, *, whole: bool | None = None
) -> list[Standard]:
    """The cost of the evaluation, measured whole on a GPU and from its parts on a CPU."""
    kind = torch.device(clock.device).type
    whole = kind == "cuda" if whole is None else whole
    tried = {} if whole else trial(clock, lambda dtype: one_step(shape, clock.device, dtype))
    ways = []
    for dtype in types_of(clock.device) if whole else (min(tried, key=lambda key: tried[key]),):
        pipeline, name = Pipeline(shape, clock.device, dtype), type_name(dtype)
        pictures = () if whole else pipeline.picture_parts(clock)
        for batch in shape.batches[kind]:
            if whole:
                seconds = clock.seconds(lambda p=pipeline, b=batch: p.evaluate(b))  # type: ignore[misc]
                ways.append(Standard(shape.what, seconds, name, batch))
            else:
                parts = (*pipeline.parts(batch, clock), *pictures)
                ways.append(Standard.added_up(shape.what, name, batch, parts))
        del pipeline  # before the next is made
    return [fastest(ways, {type_name(dtype): seconds for dtype, seconds in tried.items()})]


def one_step(shape: ImageShape, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A guided step of one prompt."""
    pipeline = Pipeline(shape, device, dtype)
    latents, text = pipeline.latents(1), pipeline.read(1)
    return lambda: pipeline.step(latents, pipeline.schedule.timesteps[0], text)
