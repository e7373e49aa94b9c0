import numpy as np
import pytest
import torch
from PIL import Image

from lorascope.errors import FileError
from lorascope.zoo.families.pipeline.photographs import read_pictures


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
