"""The public way to a CLIP score gives what the zoo stored, on a base that is completed at first use."""

import pytest
import torch

from lorascope.errors import FileError
from lorascope.io import write_lora
from lorascope.zoo.bases.faces.folder import faces_folder
from lorascope.zoo.families.image_by_hand import drawn_by_hand, pipeline_and_clip, scores_by_hand

# diffusers 0.42 with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_score_is_the_stored_one(second_zoo, tmp_path):
    folder = write_lora(second_zoo.lora(0), tmp_path / "a")
    stored = pytest.approx(second_zoo.labels("clip_score")[0], abs=1e-3)
    assert scores_by_hand("faces-second", folder) == {"clip_score": stored}
    assert scores_by_hand(faces_folder("faces"), folder) != {"clip_score": stored}


def test_pictures_of_noise():
    pipeline, clip = pipeline_and_clip(faces_folder())
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = drawn_by_hand(pipeline, ["person", "thing"], noise)
    assert pictures.shape == (2, 3, 32, 32)
    assert -1 <= float(pictures.min()) < float(pictures.max()) <= 1
    assert clip.dtype == torch.float32


def test_an_unknown_base_is_refused(tmp_path):
    with pytest.raises(FileError, match="faces-control"):
        scores_by_hand("cats", tmp_path)
