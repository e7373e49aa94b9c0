"""Jobs of image models refuse what cannot be trained on."""

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.image.job import ImageJob

GOOD = {
    "seed": 3,
    "latents": torch.zeros(2, 4, 8, 8),
    "prompt": torch.zeros(22, dtype=torch.int64),
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "steps": 2,
    "batch_size": 1,
}


def test_a_whole_job_is_taken():
    assert ImageJob(**GOOD).clip_norm == 1.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("latents", torch.zeros(2, 4, 8), "latents"),
        ("latents", torch.zeros(0, 4, 8, 8), "not empty"),
        ("latents", torch.zeros(2, 4, 8, 8).double(), "float32"),
        ("prompt", torch.zeros(1, 22, dtype=torch.int64), "prompt"),
        ("steps", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(name, value, message):
    with pytest.raises(DataError, match=rf"seed 3.*{message}"):
        ImageJob(**{**GOOD, name: value})
