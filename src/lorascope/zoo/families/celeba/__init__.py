"""The CelebA family: a published Stable Diffusion is finetuned on photographs of one celebrity."""

from lorascope.zoo.families.celeba.family import CelebaFamily

__all__ = ["CelebaFamily"]
