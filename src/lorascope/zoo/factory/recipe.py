"""The recipe of a zoo: everything its bytes depend on, and where it lives.

The count is not part of it: LoRA 7 is the same in a zoo of 8 and of 8,000, so a zoo can grow.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lorascope.errors import DataError, FileError
from lorascope.home import home
from lorascope.io.shards import recipe_sha256
from lorascope.zoo.engine.grouping import PER_LANE
from lorascope.zoo.engine.opening import opens
from lorascope.zoo.factory.family import Family, engine_of

__all__ = ["named_dtype", "recipe_digest", "recipe_of", "usual_dtype", "zoo_folder"]


WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
UNREAD = ("safety_checker",)  # parts of a pipeline that take no part in a zoo
PIECE = 1 << 22  # bytes of a base's file that are in memory together


def usual_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """float32 on a processor, bfloat16 on a GPU that multiplies it.

    On a processor whole blocks are kernels in float32 (`engine/language/quick.py`,
    `engine/image/quick_blocks.py`), and a zoo does not depend on the processor's kind.

    Raises:
        DataError: there is no GPU here that could be asked.
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DataError(
            "choosing what a base is computed in: found no GPU on this machine, expected one like those "
            "of the cluster. Try --dtype bfloat16, or float32 for GPUs that do not multiply it"
        )
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16
    return torch.float32


def named_dtype(name: str) -> torch.dtype:
    """The type of a name. Raises DataError for one that bases are not computed in.

    >>> named_dtype("bfloat16")
    torch.bfloat16
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name not in dtypes:
        raise DataError(
            f"choosing what a base is computed in: found the type {name!r}, expected {' or '.join(dtypes)}"
        )
    return dtypes[name]


def base_digest(folder: Path) -> str:
    """sha256 over the configurations and the weights of a base, of a whole pipeline if it is one.

    What no load reads is left out: the Hub's folders hold more or less of it, and its cache grows.
    """
    found = {
        "config.json": [*folder.rglob("config.json")],
        "scheduler_config.json": [*folder.rglob("scheduler_config.json")],
        "*.safetensors": [*read_weights(folder)],
    }
    for kind in ("config.json", "*.safetensors"):
        if not found[kind]:
            raise FileError(
                f"reading the base {folder}: there is no {kind} in it. Try a folder that "
                "save_pretrained made, with safetensors"
            )
    digest = hashlib.sha256()
    files = (file for kind in found.values() for file in kind)
    for file in sorted(file for file in files if file.relative_to(folder).parts[0] not in UNREAD):
        name = file.relative_to(folder).as_posix()
        digest.update(name.encode() + b"\0")
        with file.open("rb") as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
    return digest.hexdigest()


def read_weights(folder: Path) -> Iterator[Path]:
    """The files of weights under a base's folder that loading it reads.

    Where a part has weights by their usual name, or an index of several files, others beside these are
    variants (`model.fp16.safetensors`, `diffusion_pytorch_model.non_ema.safetensors`).

    Raises:
        FileError: an index cannot be read.
    """
    for place in {path.parent for path in folder.rglob("*.safetensors")}:
        usual = set(WEIGHTS)
        for index in (place / f"{name}.index.json" for name in WEIGHTS):
            if index.is_file():
                try:
                    usual.update(
                        json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
                    )
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
                    raise FileError(
                        f"reading the base {folder}: {index} is no index of weights ({problem!r}). Try "
                        "downloading it again"
                    ) from problem
        there = [*place.glob("*.safetensors")]
        yield from [file for file in there if file.name in usual] or there


def recipe_of(
    family: Family,
    *,
    dtype: torch.dtype,
    slots: int,
    exact_steps: int | None = None,
    per_lane: int | None = None,
) -> dict[str, Any]:
    """The recipe as plain data, as `recipe.json` keeps it.

    Args:
        exact_steps: of each adapter, that are computed in float32 where dtype is coarser; by default as
            the engine has it. Recipes of zoos that were built before there was such an opening name none.
        per_lane: jobs that a lane trains one after another; by default as the engine has it. Not named where
            it is 4.
    """
    if exact_steps is None:
        exact_steps = engine_of(family).exact_steps if opens(dtype) else 0
    per_lane = per_lane or engine_of(family).per_lane
    engine: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "slots": slots}
    if exact_steps:
        engine["exact_steps"] = exact_steps
    if per_lane != PER_LANE:
        engine["per_lane"] = per_lane
    recipe = {
        "family": family.name,
        "seed": family.seed,
        "base": {"folder": family.base_folder.name, "sha256": base_digest(family.base_folder)},
        "adapters": family.spec.plain(),
        "options": dict(family.options),
        "targets": {name: dict(target) for name, target in family.targets.items()},
        "engine": engine,
    }
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """The name of a recipe: 12 hexadecimal digits of its sha256."""
    return recipe_sha256(recipe)[:12]


def zoo_folder(recipe: Mapping[str, Any]) -> Path:
    """Where a zoo is built if nothing else is asked: by family and recipe under `home()`."""
    return home() / "zoos" / f"{recipe['family']}-{recipe_digest(recipe)}"
