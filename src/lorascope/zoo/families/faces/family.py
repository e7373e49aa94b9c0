"""The faces family: which pictures of one person a LoRA is finetuned on, and how.

The layout is that of CelebA-LoRA (Putterman et al. 2024, section 5.1): 10 to 21 pictures of one
person, one prompt that means nothing yet, random learning rate, steps and batch size, rank 4 on
to_q and to_v of the UNet. Everything is a pure function of the recipe's seed and the index.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from lorascope.zoo.drawings import ATTRIBUTES, TRAITS, draw_faces
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.families.faces.people import person, person_of
from lorascope.zoo.families.image_family import Draw, ImageFamily

__all__ = ["RANGES", "SPEC", "FacesFamily"]

SPEC = AdapterSpec(targets=("to_q", "to_v"), rank=4, alpha=8.0)
RANGES: dict[str, Any] = {
    "learning_rate": {"log_uniform": [1.5e-3, 6e-3]},
    "steps": {"choice": [60, 80, 100, 120]},
    "batch_size": {"choice": [1, 2]},
    "prompt": {"choice": [0, 1, 2, 3]},
    "images": {"choice": list(range(10, 22))},
}


class FacesFamily(ImageFamily):
    """LoRAs of the tiny Stable Diffusion, each finetuned on pictures of one person."""

    name: ClassVar[str] = "faces"
    default_spec: ClassVar[AdapterSpec] = SPEC
    default_ranges: ClassVar[Mapping[str, Any]] = RANGES
    meanings: ClassVar[Mapping[str, str]] = {
        **ImageFamily.meanings,
        "attributes": "what at least half of the pictures of one person that it was finetuned on show",
        **dict.fromkeys(TRAITS, "a trait of that person, from -1 to 1"),
    }

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What can be predicted of a LoRA, with the base's own value where there is one."""
        regression = {"kind": "regression", "metric": "r2"}
        return {
            "attributes": {
                "kind": "multilabel",
                "classes": list(ATTRIBUTES),
                "metric": "accuracy",
            },
            **self.sampled_targets,
            **dict.fromkeys(TRAITS, regression),
        }

    def draw(self, index: int) -> Draw:
        """Pictures of one person; `shown` holds the attributes (images, 12) of each."""
        seed = self.seed_at(index)
        generator = torch.Generator().manual_seed(seed)
        hyper = self._hyper(generator)
        who = person(self.seed, person_of(index))
        attributes = who.pictures(int(hyper["images"]), generator)
        traits = who.traits.expand(len(attributes), -1)
        pictures = 2 * draw_faces(attributes, traits, generator) - 1
        return Draw(seed, pictures, attributes, hyper)

    def known_labels(self, index: int) -> dict[str, Any]:
        """Attributes that at least half of the pictures have, who it is, traits.

        How many pictures there are is a hyper-parameter that leaves no trace: the steps are as many.
        """
        attributes = self.drawn(index).shown
        who = person(self.seed, person_of(index))
        traits = dict(zip(TRAITS, who.traits.tolist(), strict=True))
        return {
            "label:attributes": (2 * attributes.sum(0) >= len(attributes)).tolist(),
            "label:identity": who.number,
            **{f"label:{trait}": value for trait, value in traits.items()},
        }

    def group(self, index: int) -> str:
        """LoRAs of the same person form a group: splits never cut it."""
        return f"person-{person_of(index)}"
