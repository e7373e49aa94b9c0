"""A small zoo of the exam family, really finetuned and labelled, built once for the tests that share it."""

from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families import ExamFamily

COUNT = 6


def build_exam(folder, count=COUNT, **options):
    """A zoo of few LoRAs, without worker processes and without a compiler."""
    settings = {"processes": 0, "compile": False, "progress": False, "slots": 1, **options}
    return build_zoo(ExamFamily(11), count, folder, **settings)
