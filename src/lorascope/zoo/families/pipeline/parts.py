"""What stands around the UNet of a Stable Diffusion folder: VAE, texts, and the CLIP that scores.

    base    model_index.json  unet/  vae/  text_encoder/  tokenizer/  scheduler/    StableDiffusionPipeline
    clip    config.json  model.safetensors  vocab.json  merges.txt  preprocessor_config.json    CLIPModel

The UNet itself is the engine's (`engine/image/base.py`). Sizes follow from the folders: pictures of
512 and latents of 4 x 64 x 64 for Stable Diffusion 1, anything else for a stand-in.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import DataError, FileError, MissingExtraError
from lorascope.zoo.bases.faces.similarity import image_features, text_features
from lorascope.zoo.bases.faces.unet import noise_levels
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.engine.image.base import noise_levels_of

__all__ = ["Parts", "Sizes", "clip_digest", "load_parts", "sizes_of"]

BASE_LAYOUT = (
    "Expected the folder of a StableDiffusionPipeline: unet/, vae/, text_encoder/, tokenizer/ and "
    "scheduler/, each with its configuration and safetensors, as on the Hub or by save_pretrained"
)
CLIP_LAYOUT = (
    "Expected the folder of a CLIPModel with its processor, as openai/clip-vit-base-patch16 on the Hub: "
    "config.json, model.safetensors, vocab.json, merges.txt, preprocessor_config.json"
)


@dataclass(frozen=True)
class Sizes:
    """What the configuration of a base says."""

    channels: int  # of latents
    latent: int  # height and width of latents
    picture: int  # height and width of pictures

    @property
    def latents(self) -> tuple[int, int, int]:
        """The shape of one picture's latents."""
        return self.channels, self.latent, self.latent


def sizes_of(base: Path) -> Sizes:
    """The sizes of a base, from its configuration alone.

    Raises:
        FileError: there is no such folder, or it is of another kind.
    """
    try:
        unet = json.loads((base / "unet" / "config.json").read_text())
        vae = json.loads((base / "vae" / "config.json").read_text())
        halvings = len(vae["block_out_channels"]) - 1
        channels, latent = int(unet["in_channels"]), int(unet["sample_size"])
        return Sizes(channels, latent, latent * 2**halvings)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FileError(f"reading the base {base}: {problem}. {BASE_LAYOUT}") from problem


@cache
def clip_digest(folder: Path) -> str:
    """sha256 over the configuration and the weights of a CLIP: scores depend on it.

    Raises:
        FileError: there are none.
    """
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights or not (folder / "config.json").is_file():
        raise FileError(f"reading CLIP from {folder}: found no weights. {CLIP_LAYOUT}")
    digest = hashlib.sha256()
    for file in (folder / "config.json", *weights):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Parts:
    """The frozen parts in float32."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    clip: Any
    reader: Any  # CLIP's own tokenizer
    mean: Tensor  # (3, 1, 1), of the pixels that CLIP sees
    std: Tensor  # (3, 1, 1)

    def to(self, device: torch.device) -> "Parts":
        """The same on another device."""
        for part in (self.vae, self.text_encoder, self.clip):
            part.to(device)
        tensors = self.mean.to(device), self.std.to(device)
        return Parts(self.vae, self.text_encoder, self.tokenizer, self.clip, self.reader, *tensors)

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids of prompts for the text encoder: (p, t) int64."""
        return _ids(self.tokenizer, prompts)

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Encoded prompts: (p, t, width)."""
        texts: Tensor = self.text_encoder(self.ids(prompts).to(self.mean.device))[0]
        return texts

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Scaled means of pictures (e, 3, h, w) in [-1, 1], one by one: (e, c, h', w') on the CPU."""
        scale = self.vae.config.scaling_factor
        pictures = pictures.to(self.mean.device)
        means = [self.vae.encode(picture[None]).latent_dist.mean for picture in pictures]
        latents: Tensor = (torch.cat(means) * scale).cpu()
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (p, 3, h, w) in [-1, 1] of latents (p, c, h', w'), one by one."""
        scaled = latents.to(self.mean.device).float() / self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(each[None]).sample.clamp(-1, 1) for each in scaled])

    def features(self, pictures: Tensor) -> Tensor:
        """CLIP's unit features of pictures (e, 3, h, w) in [-1, 1]: (e, k) on the CPU."""
        size = self.clip.config.vision_config.image_size
        seen = torch.nn.functional.interpolate(
            (pictures.to(self.mean.device) + 1) / 2, (size, size), mode="bicubic", antialias=True
        )
        return image_features(self.clip, (seen.clamp(0, 1) - self.mean) / self.std).cpu()

    def wanted(self, prompts: Sequence[str]) -> Tensor:
        """CLIP's unit features of prompts: (p, k) on the CPU."""
        return text_features(self.clip, _ids(self.reader, prompts).to(self.mean.device)).cpu()


def _ids(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    ids: Tensor = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids.to(torch.int64)


def load_parts(base: Path, clip: Path) -> Parts:
    """Load what stands around the UNet.

    Raises:
        FileError: a part is missing or cannot be read.
        DataError: the schedule is not Stable Diffusion 1's.
        MissingExtraError: diffusers or transformers is not installed.
    """
    _check_schedule(base)
    try:
        from diffusers import AutoencoderKL
        from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer
    except ImportError as missing:
        raise MissingExtraError("diffusers", "zoo", f"loading the base {base}") from missing
    here = {"local_files_only": True}
    eager = {"attn_implementation": "eager", **here}
    try:
        with quiet_loading():
            vae = AutoencoderKL.from_pretrained(base / "vae", **here)
            encoder = CLIPTextModel.from_pretrained(base / "text_encoder", **eager)
        tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer", **here)
    except (OSError, ValueError, TypeError) as problem:
        raise FileError(f"loading the base {base}: {problem}. {BASE_LAYOUT}") from problem
    try:
        with quiet_loading():
            model = CLIPModel.from_pretrained(clip, **eager)
        reader = CLIPTokenizer.from_pretrained(clip, **here)
        pixels = json.loads((clip / "preprocessor_config.json").read_text())
        mean, std = (torch.tensor(pixels[f"image_{name}"]) for name in ("mean", "std"))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FileError(f"loading CLIP from {clip}: {problem}. {CLIP_LAYOUT}") from problem
    for part in (vae, encoder, model):
        part.float().eval().requires_grad_(False)
    return Parts(vae, encoder, tokenizer, model, reader, mean[:, None, None], std[:, None, None])


def _check_schedule(base: Path) -> None:
    """The sampler computes with Stable Diffusion 1's schedule."""
    if not (base / "scheduler").is_dir():
        raise FileError(f"loading the base {base}: there is no scheduler/ in it. {BASE_LAYOUT}")
    found, known = noise_levels_of(base / "scheduler").double(), noise_levels().double()
    if found.shape != known.shape or not torch.allclose(found, known, rtol=1e-4, atol=0):
        raise DataError(
            f"loading the base {base}: its noise schedule is not that of Stable Diffusion 1 (beta from "
            ".00085 to .012, linear in the square root, 1,000 times), which samples are drawn with. Try "
            "Stable Diffusion 1.4 or 1.5"
        )
