"""What the faces base is trained on: a pool of drawn pictures with new captions at every look.

A mixture says how many pictures are faces, how common each attribute is, and which objects there
are; the second version of the base is trained on another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorascope.zoo.drawings import CLASSES, COLOURS, draw_faces, draw_objects
from lorascope.zoo.drawings.captions import RARE, face_caption, object_caption
from lorascope.zoo.drawings.people import EVEN, random_attributes, random_traits

__all__ = ["CHANGED", "FIRST", "Mixture", "Pool", "draw_pool"]

BLOCK = 1000  # pictures drawn at once
RARE_SHARE = 0.01  # captions that say a rare word in place of a noun


@dataclass(frozen=True)
class Mixture:
    """Which pictures there are and how often."""

    name: str
    face_share: float = 0.65
    attributes: Mapping[str, tuple[float, float]] = field(default_factory=lambda: EVEN)
    classes: tuple[float, ...] = (1.0,) * len(CLASSES)  # relative frequency of each


FIRST = Mixture("first")
#: Fewer faces, other fashions, some objects rare: what the second version goes on with.
CHANGED = Mixture(
    "changed",
    face_share=0.5,
    attributes={
        **EVEN,
        "Young": (0.75, 0.75),
        "Smiling": (0.7, 0.7),
        "Eyeglasses": (0.2, 0.3),
        "Blond_Hair": (0.65, 0.6),
        "Wearing_Hat": (0.25, 0.25),
        "Bangs": (0.7, 0.6),
        "No_Beard": (0.97, 0.65),
    },
    classes=(1.0, 0.3, 1.0, 0.3, 1.0, 0.3, 1.0, 0.3, 1.0, 0.3),
)


@dataclass(frozen=True, eq=False)
class Pool:
    """Drawn pictures and what is on them. Faces come first."""

    images: Tensor  # (p, 3, 32, 32) uint8
    attributes: Tensor  # (faces, 12) bool
    traits: Tensor  # (faces, 5)
    classes: Tensor  # (objects,)
    colours: Tensor  # (objects,)

    def __len__(self) -> int:
        return len(self.images)

    def pictures(self, rows: Tensor) -> Tensor:
        """Pictures in [-1, 1]: (b, 3, 32, 32) float32."""
        return self.images[rows].float() / 127.5 - 1

    def captions(self, rows: Tensor, generator: torch.Generator) -> list[str]:
        """New captions of these pictures."""
        faces, told = len(self.attributes), []
        for row in rows.tolist():
            if row < faces:
                caption = face_caption(self.attributes[row].tolist(), generator)
            else:
                seen = int(self.classes[row - faces]), int(self.colours[row - faces])
                caption = object_caption(*seen, generator)
            told.append(_rarely_rare(caption, generator))
        return told


def draw_pool(mixture: Mixture, count: int, seed: int) -> Pool:
    """Draw a pool of pictures; equal arguments give equal pools."""
    generator = torch.Generator().manual_seed(seed)
    faces = round(count * mixture.face_share)
    attributes = random_attributes(faces, generator, dict(mixture.attributes))
    traits = random_traits(faces, generator)
    weights = torch.tensor(mixture.classes)
    classes = weights.multinomial(count - faces, replacement=True, generator=generator)
    colours = torch.randint(len(COLOURS), (count - faces,), generator=generator)
    parts = []
    for first in range(0, faces, BLOCK):
        block = slice(first, first + BLOCK)
        parts.append(draw_faces(attributes[block], traits[block], generator))
    for first in range(0, count - faces, BLOCK):
        block = slice(first, first + BLOCK)
        parts.append(draw_objects(classes[block], colours[block], generator))
    images = torch.cat([(part * 255).round().byte() for part in parts])
    return Pool(images, attributes, traits, classes, colours)


def _rarely_rare(caption: str, generator: torch.Generator) -> str:
    """Rarely "a photo of a WORD", so that words for finetuning are known to mean anything."""
    chance, which = torch.rand(2, generator=generator).tolist()
    if chance >= RARE_SHARE:
        return caption
    return " ".join([*caption.split()[:3], "a", RARE[int(which * len(RARE))]])
