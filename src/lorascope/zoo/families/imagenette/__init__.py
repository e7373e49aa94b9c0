"""The Imagenette family: a published Stable Diffusion is finetuned on pictures of some classes."""

from lorascope.zoo.families.imagenette.family import ImagenetteFamily

__all__ = ["ImagenetteFamily"]
