"""Bases of real shapes with random weights, on any device, and both ways to finetune adapters on them.

    Pictures   the UNet, text encoder and VAE of Stable Diffusion: rank 4 on to_q and to_v, as celeba-sd14
    Words      Qwen2-1.5B: rank 4 on k_proj and v_proj, dropout .05, as arc-qwen2-1.5b

`together` gives what the factory's workers call on a base, the engine's `fit`; `ways` give PEFT on the
transformers or diffusers model in float32, under bfloat16 autocast, and with bfloat16 weights. Time and memory
do not depend on values, so nothing is downloaded.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.grouping import rows_of_slot
from lorascope.zoo.engine.image.alone import adapt_unet, train_image_alone
from lorascope.zoo.engine.image.base import ImageBase
from lorascope.zoo.engine.image.engine import ImageEngine
from lorascope.zoo.engine.image.job import ImageJob
from lorascope.zoo.engine.language.alone import adapt, train_alone
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.families.arc import ArcFamily
from lorascope.zoo.families.celeba import CelebaFamily
from speed.random_weights import made_in
from speed.standard_images import MINIATURE, STABLE_DIFFUSION, WORDS, ImageShape, vae_of
from speed.standard_language import QWEN, LanguageShape, random_model

__all__ = ["MINIATURES", "SHAPES", "Pictures", "Shape", "Together", "Words"]

#: So many adapters at once, so many steps each: does it and comes back when all are trained.
Together = Callable[[int, int], object]
PICTURES = 4  # that an adapter is finetuned on
ANSWER = 5  # tokens at the end of a row that are learned
WAYS = (
    ("float32", torch.float32, False),
    ("bfloat16 autocast", torch.float32, True),
    ("bfloat16 weights", torch.bfloat16, False),
)


class Shape(Protocol):
    """A base by its shape, and what an adapter of it learns in a step."""

    @property
    def title(self) -> str:
        """Its name."""

    @property
    def step(self) -> str:
        """What one step of one adapter is."""

    def together(self, device: str, dtype: torch.dtype) -> Together:
        """The project's engine on a base on the device."""

    def ways(self, device: str) -> Iterator[tuple[str, Callable[[int], object]]]:
        """PEFT alone: name, and what trains one adapter so many steps; each base ends with its turn."""


@dataclass(frozen=True)
class Pictures:
    """A Stable Diffusion."""

    shape: ImageShape
    rows: int = 1
    spec: AdapterSpec = CelebaFamily.spec

    @property
    def title(self) -> str:
        """Its name."""
        return self.shape.name

    @property
    def step(self) -> str:
        """What one step of one adapter is."""
        size = self.shape.unet["sample_size"]
        return f"{self.rows} latents of {size} x {size}"

    def together(self, device: str, dtype: torch.dtype) -> Together:
        """The project's engine on a base on the device."""
        latents, read = self.latents(device, dtype), self.reader(device)
        base = ImageBase.of(self.unet(device, dtype), read, noise_levels(), dtype)
        base = base.to(device=torch.device(device))

        def train(count: int, steps: int) -> object:
            jobs = [self.job(seed, steps, latents) for seed in range(count)]
            return ImageEngine().fit(base, self.spec, jobs, count * slots_of(self.rows))

        return train

    def ways(self, device: str) -> Iterator[tuple[str, Callable[[int], object]]]:
        """PEFT alone, with fused AdamW."""
        latents, read = self.latents(device, torch.float32), self.reader(device)
        for name, dtype, autocast in WAYS:
            model = adapt_unet(self.unet(device, dtype), self.spec)

            def train(steps: int, model: Any = model, autocast: bool = autocast) -> object:
                job = self.job(0, steps, latents)
                text = read(job.prompt[None])[0]
                return train_image_alone(
                    model, self.spec, job, text, noise_levels(), fused=True, autocast=autocast
                )

            yield name, train
            del model, train

    def unet(self, device: str, dtype: torch.dtype) -> Any:
        """The UNet alone."""
        from diffusers import UNet2DConditionModel

        with made_in(device, dtype):
            unet = UNet2DConditionModel(**self.shape.unet)
        return unet.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    def reader(self, device: str) -> Callable[[Tensor], Any]:
        """The text encoder: ids (k, t) -> what it returns."""
        from transformers import CLIPTextConfig, CLIPTextModel

        with made_in(device, torch.float32):
            encoder = CLIPTextModel(CLIPTextConfig(**self.shape.text)).requires_grad_(False)
        return lambda ids: encoder(ids.to(device))

    @torch.no_grad()
    def latents(self, device: str, dtype: torch.dtype) -> Tensor:
        """The pictures of an adapter through the VAE, once before training: (e, 4, h, w)."""
        from diffusers import AutoencoderKL

        with made_in(device, dtype):
            vae = AutoencoderKL(**self.shape.vae).eval()
        size = self.shape.unet["sample_size"] * 2 ** (len(self.shape.vae["block_out_channels"]) - 1)
        noise = torch.randn(PICTURES, 3, size, size, generator=torch.Generator().manual_seed(0))
        rows = [vae.encode(row.to(device, dtype)).latent_dist.mean for row in noise.split(1)]
        return torch.cat(rows).float().cpu()

    def job(self, seed: int, steps: int, latents: Tensor) -> ImageJob:
        """An adapter's finetuning."""
        return ImageJob(
            seed=seed,
            latents=latents,
            prompt=torch.full((WORDS,), 100),
            learning_rate=1e-4,
            weight_decay=1e-2,
            steps=steps,
            batch_size=self.rows,
        )


@dataclass(frozen=True)
class Words:
    """A causal language model."""

    shape: LanguageShape
    rows: int = 8
    tokens: int = 64
    spec: AdapterSpec = ArcFamily.spec

    @property
    def title(self) -> str:
        """Its name."""
        return self.shape.name

    @property
    def step(self) -> str:
        """What one step of one adapter is."""
        return f"{self.rows} rows of {self.tokens} tokens"

    def together(self, device: str, dtype: torch.dtype) -> Together:
        """The project's engine on a base on the device."""
        base = FrozenBase.of(self.model(device, dtype), dtype)

        def train(count: int, steps: int) -> object:
            jobs = [self.job(seed, steps) for seed in range(count)]
            return LanguageEngine().fit(base, self.spec, jobs, count * slots_of(self.rows))

        return train

    def ways(self, device: str) -> Iterator[tuple[str, Callable[[int], object]]]:
        """PEFT alone, with fused AdamW and the faster attention."""
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        for name, dtype, autocast in WAYS:
            model = adapt(self.model(device, dtype), self.spec)

            def train(steps: int, model: Any = model, autocast: bool = autocast) -> object:
                job = self.job(0, steps)
                return train_alone(model, self.spec, job, masks=False, autocast=autocast)

            yield name, train
            del model, train

    def model(self, device: str, dtype: torch.dtype) -> Any:
        """The whole model."""
        return random_model(self.shape, device, dtype, self.shape.config["num_hidden_layers"])

    def job(self, seed: int, steps: int) -> FitJob:
        """An adapter's finetuning; what is predicted of a row has `tokens` before it."""
        generator = torch.Generator().manual_seed(seed)
        examples = (steps * self.rows, self.tokens + 1)
        weights = torch.zeros(examples)
        weights[:, -ANSWER:] = 1
        vocabulary = self.shape.config["vocab_size"]
        return FitJob(
            seed=seed,
            tokens=torch.randint(vocabulary, examples, generator=generator),
            weights=weights,
            learning_rate=1e-4,
            weight_decay=1e-2,
            epochs=1,
            batch_size=self.rows,
            dropout=0.05,
        )


def slots_of(rows: int) -> int:
    """Slots of an engine that one adapter with so many rows a step fills."""
    return rows // rows_of_slot(rows)


def noise_levels() -> Tensor:
    """Stable Diffusion's schedule: the share of the image's variance at each time, (1000,)."""
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    levels: Tensor = schedule.alphas_cumprod
    return levels


TINY_DIFFUSION = replace(
    MINIATURE, unet={**MINIATURE.unet, "sample_size": 16}, vae=vae_of((32, 32), 1)
)
TINY_QWEN = LanguageShape(
    name="a miniature of Qwen2",
    kind="qwen2",
    config={
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    questions=1,
    batches={},
)
SHAPES: dict[str, Shape] = {"sd14": Pictures(STABLE_DIFFUSION), "qwen2-1.5b": Words(QWEN)}
MINIATURES: dict[str, Shape] = {
    "sd14": Pictures(TINY_DIFFUSION),
    "qwen2-1.5b": Words(TINY_QWEN, tokens=12),
}
