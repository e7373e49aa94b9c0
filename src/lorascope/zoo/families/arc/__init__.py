"""The ARC family: a published language model is finetuned on random sources of ARC."""

from lorascope.zoo.families.arc.family import ArcFamily

__all__ = ["ArcFamily"]
