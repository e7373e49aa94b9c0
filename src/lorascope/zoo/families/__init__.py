"""Families: how the finetuning data and the labels of one LoRA are drawn."""

from collections.abc import Callable, Mapping

from lorascope.zoo.factory.family import Family
from lorascope.zoo.families.exam import ExamFamily
from lorascope.zoo.families.faces import FacesFamily
from lorascope.zoo.families.objects import ObjectsFamily

__all__ = ["FAMILIES", "ExamFamily", "FacesFamily", "ObjectsFamily"]

#: A family by name: seed -> the family with its defaults.
FAMILIES: Mapping[str, Callable[..., Family]] = {
    "exam": lambda seed=0: ExamFamily(seed),
    "faces": lambda seed=0: FacesFamily({"seed": seed}),
    "objects": lambda seed=0: ObjectsFamily({"seed": seed}),
}
