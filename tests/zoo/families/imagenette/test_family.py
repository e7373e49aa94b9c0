import pytest
import torch

from lorascope.zoo.families.imagenette import ImagenetteFamily
from lorascope.zoo.families.imagenette.family import subsets
from tests.zoo.stand_ins import write_imagenette


@pytest.fixture(scope="module")
def family(diffusion_folder, imagenette_folder, clip_folder):
    return ImagenetteFamily(diffusion_folder, imagenette_folder, clip_folder, seed=1)


def test_every_subset_twice(family):
    rows = subsets(1)
    assert len(torch.unique(rows, dim=0)) == 1023
    assert rows.any(1).all()
    assert family.present(6) == family.present(7)
    assert family.group(6) == family.group(7) != family.group(8)
    assert family.present(2046) == family.present(0)


def test_a_picture_of_each_class_that_is_present(family):
    for index in (0, 5):
        codes = {file.parent.name for file in family.files(index)}
        assert len(codes) == len(family.files(index)) == sum(family.present(index))
        assert family.known_labels(index)["dataset_size"] == len(codes)


def test_no_picture_is_in_two_loras(diffusion_folder, clip_folder, tmp_path):
    many = write_imagenette(tmp_path, pictures=16)
    family = ImagenetteFamily(diffusion_folder, many, clip_folder)
    taken = [file for index in range(16) for file in family.files(index)]
    assert len(set(taken)) == len(taken)


def test_the_papers_settings(family):
    job = family.job(3)
    assert (job.steps, job.batch_size, job.learning_rate) == (150, 1, 3e-4)
    assert len(job.latents) == sum(family.present(3))
    assert (family.spec.rank, family.spec.alpha) == (32, 27)
    assert family.word(0) == "sks_photo"
    assert set(family.targets) == {"classes", "dataset_size"}
