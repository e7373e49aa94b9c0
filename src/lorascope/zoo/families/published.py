"""The paper's own zoos (Putterman et al. 2024, section 5.1): published models and data, by name.

| recipe | base | data | LoRAs |
|---|---|---|---|
| celeba-sd14 | CompVis/stable-diffusion-v1-4 | CelebA's folder | 3,900 |
| imagenette-sd14 | CompVis/stable-diffusion-v1-4 | Imagenette's folder | 2,046 |
| arc-qwen2-1.5b | Qwen/Qwen2-1.5B | allenai/ai2_arc, or AI2's folder | 2,000 |
| arc-llama3.2-3b | meta-llama/Llama-3.2-3B | the same | 2,000 |

Bases and data are given by a folder or by a name on the Hub. Stable Diffusion's labels are scored by
openai/clip-vit-base-patch16.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorascope.errors import DataError, FileError
from lorascope.zoo.bases.hub import OnHub, fetch
from lorascope.zoo.factory.family import Family
from lorascope.zoo.families.arc import ArcFamily
from lorascope.zoo.families.arc.questions import digest_of
from lorascope.zoo.families.celeba import CelebaFamily
from lorascope.zoo.families.celeba.people import LAYOUT as CELEBA
from lorascope.zoo.families.celeba.people import read_celebrities
from lorascope.zoo.families.imagenette import ImagenetteFamily
from lorascope.zoo.families.imagenette.classes import LAYOUT as IMAGENETTE
from lorascope.zoo.families.imagenette.classes import pictures_of
from lorascope.zoo.families.pipeline.parts import sizes_of

__all__ = ["PUBLISHED", "Published", "published_family"]

DIFFUSION = OnHub(
    "CompVis/stable-diffusion-v1-4",
    (
        "model_index.json",
        "*/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/*",
        "scheduler/*",
    ),
)
CLIP = OnHub(
    "openai/clip-vit-base-patch16",
    ("config.json", "model.safetensors", "pytorch_model.bin", "*.json", "merges.txt"),
)
LANGUAGE = ("config.json", "generation_config.json", "*.safetensors", "*.index.json", "tokenizer*")
ARC = OnHub("allenai/ai2_arc", ("ARC-*/*.parquet",), "dataset")
LLAMA = "accept the licence on the model's page and log in with 'hf auth login'"


@dataclass(frozen=True)
class Published:
    """One of the paper's zoos."""

    kind: type
    base: OnHub
    count: int
    data: OnHub | None = None  # none: only from a folder
    layout: str = ""  # of that folder


PUBLISHED: Mapping[str, Published] = {
    "celeba-sd14": Published(CelebaFamily, DIFFUSION, 3900, layout=CELEBA),
    "imagenette-sd14": Published(ImagenetteFamily, DIFFUSION, 2046, layout=IMAGENETTE),
    "arc-qwen2-1.5b": Published(ArcFamily, OnHub("Qwen/Qwen2-1.5B", LANGUAGE), 2000, ARC),
    "arc-llama3.2-3b": Published(
        ArcFamily, OnHub("meta-llama/Llama-3.2-3B", LANGUAGE, licence=LLAMA), 2000, ARC
    ),
}


def published_family(
    name: str,
    *,
    base: str | Path | None = None,
    data: str | Path | None = None,
    clip: str | Path | None = None,
    seed: int = 0,
    **options: Any,
) -> Family:
    """A family of the paper, on the published model or on another of its kind.

    Args:
        base, data, clip: a folder, or a name on the Hub; by default the recipe's own.
        options: what the family takes besides (ranges, sampled, photographs, longest).

    Raises:
        DataError: there is no such recipe.
        FileError: something is neither here nor on the Hub; says what, where from and its layout.
    """
    if name not in PUBLISHED:
        raise DataError(
            f"looking for the recipe {name!r}: expected one of {', '.join(PUBLISHED)}. Try "
            "docs/recipes.md"
        )
    recipe = PUBLISHED[name]
    if data is None and recipe.data is None:
        raise FileError(
            f"building {name}: its data is on no hub and no folder was given. {recipe.layout}. Try "
            "--data FOLDER"
        )
    read = place_of(data, recipe.data)
    folder = place_of(base, recipe.base)
    if recipe.kind is ArcFamily:
        digest_of(read)  # what is missing is said before a base is loaded
        return ArcFamily(folder, read, seed=seed, name=name, **options)
    (read_celebrities if recipe.kind is CelebaFamily else pictures_of)(read)
    sizes_of(folder)
    scorer = place_of(clip, CLIP)
    family: Family = recipe.kind(folder, read, scorer, seed=seed, name=name, **options)
    return family


def place_of(given: str | Path | None, usual: OnHub | None) -> Path:
    """A folder that was given, or of a name on the Hub.

    Raises:
        FileError: it is no folder and no name, or cannot be fetched.
    """
    if given is not None and Path(given).is_dir():
        return Path(given).resolve()
    name = str(given) if given is not None else ""
    if usual is not None and given is None:
        return fetch(usual)
    owner, _, rest = name.partition("/")
    if usual is None or isinstance(given, Path) or not owner or not rest or "/" in rest:
        what = "" if usual is None else " or a name on the Hub (owner/name)"
        raise FileError(f"looking for {given}: found no such folder. Expected a folder{what}")
    return fetch(replace(usual, name=name, licence=""))
