import numpy as np
import pytest
import torch
from PIL import Image

from lorascope.errors import DataError, FileError
from lorascope.zoo.families.pipeline.photographs import read_photographs, read_pictures


def test_the_middle_is_cut_out(tmp_path):
    numbers = np.zeros((10, 20, 3), np.uint8)
    numbers[:, 5:15] = (255, 0, 128)
    Image.fromarray(numbers).save(tmp_path / "wide.png")
    Image.fromarray(numbers[:, 5:15, 0]).save(tmp_path / "grey.png")
    pictures = read_pictures([tmp_path / "wide.png", tmp_path / "grey.png"], 8)
    assert pictures.shape == (2, 3, 8, 8)
    assert torch.allclose(
        pictures[0, :, 1:-1, 1:-1].mean((1, 2)), torch.tensor([1, -1, 0.0039]), atol=1e-3
    )
    assert (pictures[1] == 1).all()


def test_a_bad_picture_is_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(FileError, match=r"reading the picture .*bad\.jpg.* Expected a JPEG"):
        read_pictures([tmp_path / "bad.jpg"], 8)


def test_bad_pictures_among_others_are_told(tmp_path):
    Image.fromarray(np.full((9, 9, 3), 255, np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    files = [tmp_path / "bad.png", tmp_path / "good.png", tmp_path / "gone.png"]
    read = read_photographs(files, 8)
    assert read.files == (tmp_path / "good.png",)
    assert torch.equal(read.pictures, torch.ones(1, 3, 8, 8))
    assert ["bad.png" in read.problems[0], "gone.png" in read.problems[1]] == [True, True]
    with pytest.raises(DataError, match=r"reading 1 pictures: none is left.*bad\.png"):
        read_photographs(files[:1], 8)
