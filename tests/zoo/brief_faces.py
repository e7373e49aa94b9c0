"""A faces base trained for a step or two: whole, quick, and of no use."""

import pytest
import torch

from lorascope.zoo.bases.faces.folder import load_faces
from lorascope.zoo.bases.faces.make import Sizes, make_first

BRIEF = Sizes(pictures=60, vae_steps=2, clip_steps=1, unet_steps=1, later_steps=2, held_out=200)


@pytest.fixture(scope="session")
def brief_folder(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("faces") / "first"
    make_first(folder, seed=3, sizes=BRIEF)
    return folder


@pytest.fixture(scope="session")
def brief_base(brief_folder):
    return load_faces(brief_folder)
