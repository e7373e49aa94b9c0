"""Stand-ins of Stable Diffusion and CLIP that the families of images from files share."""

import pytest

from tests.zoo.stand_ins import write_celeba, write_clip, write_diffusion, write_imagenette


@pytest.fixture(scope="session")
def diffusion_folder(tmp_path_factory):
    return write_diffusion(tmp_path_factory.mktemp("published") / "stable-diffusion")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("published") / "clip")


@pytest.fixture(scope="session")
def celeba_folder(tmp_path_factory):
    return write_celeba(tmp_path_factory.mktemp("celeba"))


@pytest.fixture(scope="session")
def imagenette_folder(tmp_path_factory):
    return write_imagenette(tmp_path_factory.mktemp("imagenette"))
