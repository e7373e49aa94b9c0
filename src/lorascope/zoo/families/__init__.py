"""Families: how the finetuning data and the labels of one LoRA are drawn."""

from lorascope.zoo.families.exam import ExamFamily

__all__ = ["FAMILIES", "ExamFamily"]

FAMILIES = {"exam": ExamFamily}
