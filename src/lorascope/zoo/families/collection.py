"""The embedded collection: the zoos that one machine builds, by name.

| zoo | modelled on (Putterman et al. 2024, section 5) |
|---|---|
| faces | CelebA-LoRA |
| objects | Imagenette-LoRA |
| exam-qwen, exam-llama | Qwen2-ARC-LoRA, and the same of Llama |
| ...-second | Stable Diffusion 1.4 to 1.5: finetunes of a base that was trained on |
| ...-control | of a base from another seed, which shares no weights: nothing should transfer |
| faces-rank-N | rank generalisation: the same people and pictures at each rank, the factor kept |
| exam-targets, faces-conv, exam-dora | other modules, mixed ranks and scales, convolutions, DoRA |

Every zoo but the rank sets has a seed of its own, so that no two show the same person or hold the
same questions in the same order; the rank sets share theirs, which no other zoo has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorascope.errors import DataError
from lorascope.zoo.factory.family import Family
from lorascope.zoo.families.exam import ExamFamily
from lorascope.zoo.families.exam.shapes import MIXED
from lorascope.zoo.families.faces import FacesFamily
from lorascope.zoo.families.objects import ObjectsFamily

__all__ = ["COLLECTION", "NamedZoo", "named_zoo"]

KINDS: Mapping[str, Any] = {"exam": ExamFamily, "faces": FacesFamily, "objects": ObjectsFamily}
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WITH_CONVOLUTIONS = ["to_q", "to_v", "conv1", "conv2"]


@dataclass(frozen=True)
class NamedZoo:
    """One zoo of the collection, as plain data."""

    name: str
    kind: str  # of family
    count: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def family(self, seed: int | None = None) -> Family:
        """The family that draws its LoRAs; another seed draws others of the same kind."""
        kind, options = KINDS[self.kind], dict(self.options)
        if seed is not None:
            options["seed"] = seed
        family: Family = kind(**options) if kind is ExamFamily else kind(options)
        return family


def _exam(name: str, count: int, seed: int, base: str, **options: Any) -> NamedZoo:
    return NamedZoo(name, "exam", count, {"seed": seed, "base": base, **options})


def _faces(name: str, count: int, seed: int, base: str = "faces", **adapters: Any) -> NamedZoo:
    fields: dict[str, Any] = {"seed": seed, "base": base}
    return NamedZoo(name, "faces", count, {**fields, "adapters": adapters} if adapters else fields)


_ZOOS = (
    _faces("faces", 3900, 0),
    NamedZoo("objects", "objects", 2046, {"seed": 0}),
    _exam("exam-qwen", 2000, 1, "exam-qwen"),
    _exam("exam-llama", 2000, 2, "exam-llama"),
    _faces("faces-second", 500, 1, "faces-second"),
    _exam("exam-qwen-second", 300, 3, "exam-qwen-second"),
    _exam("exam-llama-second", 300, 4, "exam-llama-second"),
    _faces("faces-control", 200, 2, "faces-control"),
    _exam("exam-qwen-control", 200, 5, "exam-qwen-control"),
    _exam("exam-llama-control", 200, 6, "exam-llama-control"),
    *(_faces(f"faces-rank-{rank}", 150, 3, rank=rank) for rank in (1, 2, 8, 16)),
    _exam(
        "exam-targets",
        300,
        7,
        "exam-qwen",
        adapters={"targets": ALL_LINEAR, "rank": 8, "alpha": 8.0},
        shapes=MIXED,
    ),
    _faces("faces-conv", 200, 4, targets=WITH_CONVOLUTIONS),
    _exam("exam-dora", 200, 8, "exam-qwen", adapters={"dora": True}),
)

#: Every zoo of the collection, in the order in which they are built.
COLLECTION: Mapping[str, NamedZoo] = {zoo.name: zoo for zoo in _ZOOS}


def named_zoo(name: str) -> NamedZoo:
    """A zoo of the collection by name.

    Raises:
        DataError: the collection has none of that name.

    Example:
        >>> named_zoo("faces-rank-2").count
        150
    """
    if name not in COLLECTION:
        raise DataError(
            f"looking for the zoo {name!r}: the collection has none of that name, expected one of "
            f"{', '.join(COLLECTION)}"
        )
    return COLLECTION[name]
