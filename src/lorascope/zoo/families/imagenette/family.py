"""The Imagenette family: this is Imagenette-LoRA (Putterman et al. 2024, section 5.1) itself.

Two LoRAs for each non-empty subset of ten classes, 2 x 1,023 = 2,046; one picture of each class that
is present; rank 32 on to_q and to_v of the UNet, alpha 27, 150 steps at 3e-4, "sks_photo". Every
picture is in one LoRA only: each class is present 1,024 times, and train/ and val/ together have more
pictures of each. With train/ alone the last LoRAs take pictures a second time.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.families.draw import seed_of
from lorascope.zoo.families.imagenette.classes import CLASSES, digest_of, pictures_of
from lorascope.zoo.families.pipeline.family import PipelineFamily

__all__ = ["ImagenetteFamily"]

COPIES = 2  # LoRAs of a subset, next to each other
SUBSETS = 2 ** len(CLASSES) - 1


class ImagenetteFamily(PipelineFamily):
    """LoRAs of Stable Diffusion, each finetuned on one picture of each of some classes."""

    kind: ClassVar[str] = "imagenette"
    words: ClassVar[tuple[str, ...]] = ("sks_photo",)
    spec: ClassVar[AdapterSpec] = AdapterSpec(targets=("to_q", "to_v"), rank=32, alpha=27.0)
    default_ranges: ClassVar[Mapping[str, Any]] = {
        "learning_rate": {"choice": [3e-4]},
        "steps": {"choice": [150]},
        "batch_size": {"choice": [1]},
        "prompt": {"choice": [0]},
    }
    meanings: ClassVar[Mapping[str, str]] = {
        **PipelineFamily.meanings,
        "classes": "of which classes it has seen a picture, one of each",
        "dataset_size": "number of pictures that it was finetuned on",
    }

    def __init__(self, base_folder: Path, data: Path, clip: Path, **others: Any) -> None:
        """Describe a zoo; nothing is sampled unless `sampled` is set: the paper predicts the classes."""
        super().__init__(base_folder, data, clip, **{"sampled": False, **others})

    @property
    def options(self) -> dict[str, Any]:
        """What else makes the zoo."""
        return super().options | {"data_sha256": digest_of(self.data)}

    @property
    def own_targets(self) -> dict[str, dict[str, Any]]:
        """The targets among the known labels."""
        classes = list(CLASSES.values())
        return {
            "classes": {"kind": "multilabel", "classes": classes, "metric": "accuracy"},
            "dataset_size": {"kind": "regression", "metric": "r2"},
        }

    def present(self, index: int) -> list[bool]:
        """Which of the ten classes LoRA `index` has seen."""
        return subsets(self.seed)[(index // COPIES) % SUBSETS].tolist()

    def files(self, index: int) -> list[Path]:
        """One picture of each class that is present: the next that no LoRA has had."""
        round_, place = divmod(index, COPIES * SUBSETS)
        before = subsets(self.seed).repeat_interleave(COPIES, 0)[:place].sum(0)
        before = before + round_ * COPIES * (SUBSETS + 1) // 2
        chosen = []
        for k, present in enumerate(self.present(index)):
            if present:
                pictures = pictures_of(self.data)[k]
                generator = torch.Generator().manual_seed(seed_of("pictures", self.seed, k))
                order = torch.randperm(len(pictures), generator=generator)
                chosen.append(pictures[int(order[int(before[k]) % len(pictures)])])
        return chosen

    def known_labels(self, index: int) -> dict[str, Any]:
        """Classes of the pictures that can be read, and how many there are."""
        codes = {file.parent.name for file in self.readable(index)[0]}
        present = [code in codes for code in CLASSES]
        return {"classes": present, "dataset_size": float(sum(present))}

    def group(self, index: int) -> str:
        """LoRAs of the same subset form a group: splits never cut it."""
        return "subset-" + "".join("01"[bit] for bit in self.present(index))


@cache
def subsets(seed: int) -> Tensor:
    """All non-empty subsets of the classes in the order of a seed: (1023, 10) bool."""
    generator = torch.Generator().manual_seed(seed_of("subsets", seed))
    order = torch.randperm(SUBSETS, generator=generator) + 1
    return (order[:, None] >> torch.arange(len(CLASSES)) & 1).bool()
