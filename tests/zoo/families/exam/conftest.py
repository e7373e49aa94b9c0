"""A few adapters of the exam, trained once for all tests of the family."""

import pytest

from lorascope.zoo.bases import load_base
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.families.exam import ExamFamily

RANGES = {"epochs": ("choice", (2,)), "learning_rate": ("uniform", (4e-3, 6e-3))}


@pytest.fixture(scope="session")
def exam_base():
    """The bundled base as a transformers model."""
    return load_base("exam-qwen")


@pytest.fixture(scope="session")
def short_family():
    """The exam with little spread of hyper-parameters."""
    return ExamFamily(seed=5, ranges=RANGES)


@pytest.fixture(scope="session")
def three_indices(short_family):
    """Indices of three small LoRAs: at most 4 sources, so that they are quick to train."""
    small = [i for i in range(200) if 2 <= len(short_family.draw(i).kept) <= 4]
    return small[:3]


@pytest.fixture(scope="session")
def three_fitted(exam_base, short_family, three_indices):
    """These three LoRAs, trained."""
    jobs = [short_family.job(i) for i in three_indices]
    return fit_adapters(exam_base, short_family.spec, jobs, compile=False)
