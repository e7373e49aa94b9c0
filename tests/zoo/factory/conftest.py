"""Small zoos, really finetuned and labelled, built once for the tests that share them."""

import pytest
import torch

from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families import FacesFamily
from tests.zoo.factory.exam_zoo import build_exam


@pytest.fixture(scope="session")
def exam_zoo(tmp_path_factory):
    """Read only: tests that change a zoo copy it."""
    return build_exam(tmp_path_factory.mktemp("exam") / "zoo", dtype=torch.float32)


@pytest.fixture(scope="session")
def faces_zoo(tmp_path_factory):
    """Two LoRAs of the tiny Stable Diffusion, of few steps."""
    family = FacesFamily({"seed": 5, "ranges": {"steps": {"choice": [10]}}})
    folder = tmp_path_factory.mktemp("faces") / "zoo"
    plain = {"processes": 0, "compile": False, "progress": False, "dtype": torch.float32}
    return build_zoo(family, 2, folder, **plain)
