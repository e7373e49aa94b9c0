import shutil

import pytest

from lorascope.errors import FileError
from lorascope.zoo.families.imagenette.classes import CLASSES, digest_of, pictures_of


def test_pictures_by_class(imagenette_folder):
    pictures = pictures_of(imagenette_folder)
    assert len(pictures) == len(CLASSES) == 10
    assert [file.name for file in pictures[0]] == [f"n01440764_{i}.JPEG" for i in range(3)]
    assert [file.parts[-3] for file in pictures[0]] == ["train", "train", "val"]


def test_the_digest_sees_a_changed_picture(imagenette_folder, tmp_path):
    other = shutil.copytree(imagenette_folder, tmp_path / "other")
    assert digest_of(other) == digest_of(imagenette_folder)
    next(other.rglob("*.JPEG")).write_bytes(b"another")
    assert digest_of(other) != digest_of(imagenette_folder)


def test_a_class_without_pictures(imagenette_folder, tmp_path):
    other = shutil.copytree(imagenette_folder, tmp_path / "other")
    shutil.rmtree(other / "train" / "n03028079")
    shutil.rmtree(other / "val" / "n03028079")
    with pytest.raises(FileError, match=r"no pictures in train/n03028079 \(church\).*fastai"):
        pictures_of(other)
