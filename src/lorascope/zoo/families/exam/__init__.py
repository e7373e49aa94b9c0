"""The exam family: a tiny language model sits an exam in about 20 made-up subjects."""

from lorascope.zoo.families.exam.family import ExamFamily

__all__ = ["ExamFamily"]
