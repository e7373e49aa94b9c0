"""The objects family: which of ten classes a LoRA has seen, one new picture of each.

The layout is that of Imagenette-LoRA (Putterman et al. 2024, section 5.1): two LoRAs for each
non-empty subset of the ten classes, 2 x 1,023 = 2,046, one picture a class, every picture in one
LoRA only, rank 8 on to_q and to_v of the UNet. A zoo may grow beyond, by two more of each subset.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from lorascope.zoo.drawings import CLASSES, COLOURS, draw_objects
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.families.draw import seed_of
from lorascope.zoo.families.image_family import Draw, ImageFamily

__all__ = ["RANGES", "SPEC", "ObjectsFamily"]

SPEC = AdapterSpec(targets=("to_q", "to_v"), rank=8, alpha=16.0)
#: Nothing varies but the pictures and the seed.
RANGES: dict[str, Any] = {
    "learning_rate": {"choice": [2e-3]},
    "steps": {"choice": [100]},
    "batch_size": {"choice": [1]},
    "prompt": {"choice": [3]},
}
SUBSETS = 2 ** len(CLASSES) - 1
COPIES = 2  # LoRAs of a subset, next to each other


class ObjectsFamily(ImageFamily):
    """LoRAs of the tiny Stable Diffusion, each finetuned on one picture of each of some classes."""

    name: ClassVar[str] = "objects"
    default_spec: ClassVar[AdapterSpec] = SPEC
    default_ranges: ClassVar[Mapping[str, Any]] = RANGES
    meanings: ClassVar[Mapping[str, str]] = {
        **ImageFamily.meanings,
        "classes": "of which classes it has seen a picture, one of each",
        "dataset_size": "number of pictures that it was finetuned on",
    }

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What can be predicted of a LoRA, with the base's own value where there is one."""
        return {
            "classes": {"kind": "multilabel", "classes": list(CLASSES), "metric": "accuracy"},
            "dataset_size": {"kind": "regression", "metric": "r2"},
            **self.sampled_targets,
        }

    def present(self, index: int) -> list[bool]:
        """Which of the ten classes LoRA `index` has seen."""
        generator = torch.Generator().manual_seed(seed_of("subsets", self.seed))
        order = torch.randperm(SUBSETS, generator=generator)
        bits = int(order[(index // COPIES) % SUBSETS]) + 1
        return [bool(bits >> place & 1) for place in range(len(CLASSES))]

    def draw(self, index: int) -> Draw:
        """One picture of each class that is present; `shown` holds the classes (images,)."""
        seed = self.seed_at(index)
        generator = torch.Generator().manual_seed(seed)
        hyper = self._hyper(generator)
        classes = torch.tensor(self.present(index)).nonzero()[:, 0]
        colours = torch.randint(len(COLOURS), classes.shape, generator=generator)
        pictures = 2 * draw_objects(classes, colours, generator) - 1
        return Draw(seed, pictures, classes, hyper)

    def known_labels(self, index: int) -> dict[str, Any]:
        """Classes present and how many pictures there are."""
        present = self.present(index)
        return {"label:classes": present, "label:dataset_size": float(sum(present))}

    def group(self, index: int) -> str:
        """LoRAs of the same subset form a group: splits never cut it."""
        return "subset-" + "".join("01"[bit] for bit in self.present(index))
