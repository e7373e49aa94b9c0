"""A small zoo of the exam family, really finetuned and labelled, built once for the tests that share it."""

import pytest
import torch

from tests.zoo.factory.exam_zoo import build_exam


@pytest.fixture(scope="session")
def exam_zoo(tmp_path_factory):
    """Read only: tests that change a zoo copy it."""
    return build_exam(tmp_path_factory.mktemp("exam") / "zoo", dtype=torch.float32)
