"""The faces family: a tiny Stable Diffusion is finetuned on pictures of one person."""

from lorascope.zoo.families.faces.family import FacesFamily

__all__ = ["FacesFamily"]
