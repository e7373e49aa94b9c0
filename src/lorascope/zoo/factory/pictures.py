"""Base and finetuned samples side by side: what finetuning did to the LoRAs of an image zoo.

One row a LoRA, under the same prompt and the same noise, by plain diffusers and peft:

    pictures that it was finetuned on | samples of the base alone | samples with the LoRA
"""

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.errors import DataError, MissingExtraError
from lorascope.io.shards import Zoo
from lorascope.io.write import write_lora
from lorascope.zoo.bases.faces.prompts import token_ids
from lorascope.zoo.bases.faces.sampler import decode, sample, single
from lorascope.zoo.bases.faces.show import write_png
from lorascope.zoo.factory.build import usable
from lorascope.zoo.factory.restore import loras_with_families
from lorascope.zoo.families.image_family import ImageFamily
from lorascope.zoo.families.image_labels import shared_noise

__all__ = ["with_adapter", "write_pictures"]

CPU = torch.device("cpu")
EACH = 3  # pictures of each kind


def write_pictures(
    zoo: Zoo,
    rows: Sequence[int],
    path: Path,
    *,
    base: str | Path | None = None,
    device: str = "cpu",
) -> Path:
    """Write a PNG with a row for each LoRA.

    Args:
        rows: places in the index.
        base: a folder or the name of a bundled base; by default the bundled one that the recipe names.
        device: what samples: "cpu", "cuda" or "cuda:N".

    Raises:
        DataError: the zoo is not of a bundled image family, or there is no such device.
        MissingExtraError: peft is not installed.
    """
    where, tiles = usable(device), []
    for lora, family, index, _ in loras_with_families(zoo, rows, base):
        if not isinstance(family, ImageFamily):
            raise DataError(
                f"Drawing samples of {zoo.path}: its LoRAs are of the family {family.name!r}, which "
                "makes no images. Expected a zoo of faces or objects."
            )
        tiles.append(one_row(family, index, lora, where))
    write_png(path, torch.cat(tiles), columns=3 * EACH)
    return path


@torch.no_grad()
def one_row(family: ImageFamily, index: int, lora: LoRA, device: torch.device = CPU) -> Tensor:
    """Drawings, base and finetuned samples of one LoRA: (9, 3, h, w) in [-1, 1], on the CPU.

    The UNet samples on the device; texts are read and pictures decoded on the CPU.
    """
    drawn = family.draw(index).pictures
    shown = drawn[[i % len(drawn) for i in range(EACH)]]
    encode = family.parts.text_encoder
    texts = encode(family.prompt(index)[None])[0].expand(EACH, -1, -1).to(device)
    empty = encode(token_ids(family.parts.tokenizer, [""]))[0].to(device)
    noise = shared_noise(EACH, 0).to(device)
    models = (copy.deepcopy(family.parts.unet), with_adapter(family.parts.unet, lora))
    sampled = [
        decode(sample(single(unet.to(device), texts, empty), noise).cpu(), family.parts.vae)
        for unet in models
    ]
    return torch.cat((shown, *sampled))


def with_adapter(unet: Any, lora: LoRA) -> Any:
    """A copy of a UNet with an adapter on it, loaded by peft from a folder."""
    try:
        from peft import PeftModel
    except ImportError as missing:
        raise MissingExtraError("peft", "zoo", "drawing samples of a LoRA") from missing
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's, about names that transformers renamed
        written = write_lora(lora, Path(folder) / "adapter")
        return PeftModel.from_pretrained(copy.deepcopy(unet), str(written)).eval()
