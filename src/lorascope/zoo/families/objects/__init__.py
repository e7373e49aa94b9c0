"""The objects family: a tiny Stable Diffusion is finetuned on one picture of each of some classes."""

from lorascope.zoo.families.objects.family import ObjectsFamily

__all__ = ["ObjectsFamily"]
