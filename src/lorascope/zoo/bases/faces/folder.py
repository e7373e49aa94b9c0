"""The faces base on disk: the standard folder of a StableDiffusionPipeline, and a CLIPModel in it.

    model_index.json  unet/  vae/  text_encoder/  tokenizer/  scheduler/     the pipeline
    clip/                                                                    the CLIPModel
    base.json                                                                what is recorded of it

Three of them are bundled, weights in half precision. They share everything but the UNet, as Stable
Diffusion 1.4 and 1.5 do, so the later two hold a UNet alone; `faces_folder` completes them once
under $LORASCOPE_HOME/bases, and the completed folder is a standard pipeline again.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import FileError, IntegrityError, MissingExtraError
from lorascope.home import home
from lorascope.zoo.bases.bundled import FACTS, BaseFacts, base_facts, sha256_of
from lorascope.zoo.bases.faces.prompts import PROMPTS, token_ids
from lorascope.zoo.bases.faces.similarity import text_features
from lorascope.zoo.bases.quiet import quiet_loading

__all__ = ["FACES", "FacesBase", "faces_folder", "load_faces", "write_faces", "write_unet"]

#: The first version, the second (trained on), and one whose UNet is from another seed.
FACES = ("faces", "faces-second", "faces-control")
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"
OWN = (Path("unet") / "config.json", UNET, Path(FACTS))


@dataclass(frozen=True, eq=False)
class FacesBase:
    """The parts of a base in float32, frozen."""

    folder: Path
    facts: BaseFacts
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    clip: Any

    @cached_property
    def empty_text(self) -> Tensor:
        """What the text encoder makes of the empty text: (t, w)."""
        return self.read(token_ids(self.tokenizer, [""]))[0]

    @cached_property
    def fixed_texts(self) -> Tensor:
        """What the text encoder makes of the 33 fixed prompts: (33, t, w)."""
        return self.read(token_ids(self.tokenizer, PROMPTS))

    @cached_property
    def wanted(self) -> Tensor:
        """CLIP's unit features of the 33 fixed prompts: (33, k)."""
        return text_features(self.clip, token_ids(self.tokenizer, PROMPTS))

    @torch.no_grad()
    def read(self, ids: Tensor) -> Tensor:
        """What the text encoder makes of token ids (p, t): (p, t, w)."""
        texts: Tensor = self.text_encoder(ids)[0]
        return texts


def faces_folder(base: str | Path = "faces") -> Path:
    """The whole pipeline folder of a bundled base, by name, or a folder that is given as a path.

    A base that shares parts with the first is completed under $LORASCOPE_HOME/bases at first use.

    Raises:
        FileError: there is no such base.
    """
    if isinstance(base, Path):
        return base
    bundled = _bundled(base)
    if base == FACES[0]:
        return bundled
    whole = home() / "bases" / f"{base}-{base_facts(bundled).sha256[:12]}"
    if not whole.is_dir():
        _complete(_bundled(FACES[0]), bundled, whole)
    return whole


def load_faces(base: str | Path = "faces") -> FacesBase:
    """A base by bundled name or by folder, every part in float32 and frozen.

    Raises:
        FileError: there is no such base.
        IntegrityError: the weights of its UNet are not those that were recorded.
        MissingExtraError: diffusers or transformers is not installed.
    """
    folder = faces_folder(base)
    facts = base_facts(folder)
    found = sha256_of(folder / UNET)
    if found != facts.sha256:
        raise IntegrityError(
            f"loading the base {folder}: {UNET} has sha256 {found[:12]}, expected "
            f"{facts.sha256[:12]}. Try reinstalling lorascope or training the base again"
        )
    parts = _loaded(folder)
    for part in (parts["unet"], parts["vae"], parts["text_encoder"], parts["clip"]):
        part.float().eval().requires_grad_(False)
    return FacesBase(folder=folder, facts=facts, **parts)


def _loaded(folder: Path) -> dict[str, Any]:
    """Every part by its own library; the same that a StableDiffusionPipeline would load."""
    try:
        from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
        from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise MissingExtraError("diffusers", "zoo", f"loading the base {folder}") from error
    here = {"local_files_only": True}
    eager = {"attn_implementation": "eager", **here}
    with quiet_loading():
        return {
            "unet": UNet2DConditionModel.from_pretrained(folder / "unet", **here),
            "vae": AutoencoderKL.from_pretrained(folder / "vae", **here),
            "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", **eager),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", **here),
            "scheduler": DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler", **here),
            "clip": CLIPModel.from_pretrained(folder / "clip", **eager),
        }


def write_faces(
    out: Path, *, unet: Any, vae: Any, clip: Any, tokenizer: Any, scheduler: Any
) -> None:
    """Write the whole folder, weights in half precision; `base.json` is written by its trainer."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPImageProcessor, CLIPProcessor

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=_text_encoder(clip),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (unet, vae, pipeline.text_encoder, clip):
        part.half()
    pipeline.save_pretrained(out)
    clip.save_pretrained(out / "clip")
    pictures = CLIPImageProcessor(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    CLIPProcessor(pictures, tokenizer).save_pretrained(out / "clip")
    for config in (out / "text_encoder" / "config.json", out / "clip" / "config.json"):
        _say_single(config)
    for part in (unet, vae, clip):
        part.float()


def write_unet(out: Path, unet: Any) -> None:
    """Write a UNet alone in half precision: the folder of a base that shares the other parts."""
    unet.half().save_pretrained(out / "unet")
    unet.float()
    config = out / "unet" / "config.json"
    said = json.loads(config.read_text())
    said.pop("_name_or_path", None)  # where the UNet that it goes on from was read
    config.write_text(json.dumps(said, indent=2) + "\n")


def _text_encoder(clip: Any) -> Any:
    """CLIP's text tower as the pipeline's text encoder."""
    from transformers import CLIPTextModel

    tower = CLIPTextModel(clip.config.text_config)
    named = {
        name.removeprefix("text_model."): value
        for name, value in clip.text_model.state_dict().items()
    }
    wanted = tower.state_dict().keys()
    prefix = "text_model." if any(key.startswith("text_model.") for key in wanted) else ""
    tower.load_state_dict({prefix + name: value for name, value in named.items()})
    return tower.eval()


def _say_single(config: Path) -> None:
    """Half precision on disk, float32 in memory: what a plain from_pretrained gives."""
    said = json.loads(config.read_text())
    for part in (said, said.get("text_config", {}), said.get("vision_config", {})):
        if "dtype" in part:
            part["dtype"] = "float32"
    config.write_text(json.dumps(said, indent=2) + "\n")


def weights_of(folder: Path) -> dict[str, str]:
    """The sha256 of every weight file of a folder, by its path in it."""
    found = sorted(folder.rglob("*.safetensors"))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


def _bundled(name: str) -> Path:
    folder = Path(str(files("lorascope") / "data" / "bases" / name))
    if name not in FACES or not folder.is_dir():
        raise FileError(
            f"looking for the base {name!r}: found no such bundled base, expected one of "
            f"{', '.join(FACES)}. Try reinstalling lorascope, or the path of a pipeline's folder"
        )
    return folder


def _complete(first: Path, own: Path, whole: Path) -> None:
    """The first base's parts with another's UNet, moved into place at once."""
    whole.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=whole.parent, prefix=f".{whole.name}-"))
    try:
        shutil.copytree(first, partial, dirs_exist_ok=True)
        for part in OWN:
            shutil.copyfile(own / part, partial / part)
        partial.chmod(0o755)
        partial.rename(whole)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not whole.is_dir():  # another process may have been first
            raise FileError(
                f"completing the base in {whole}: {error}. Try another LORASCOPE_HOME"
            ) from error
