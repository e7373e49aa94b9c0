"""CLIP scores: transformers' own features, torchmetrics' formula, free leading shapes."""

import pytest
import torch

from lorascope.zoo.bases.faces.clip import new_clip
from lorascope.zoo.bases.faces.prompts import PROMPTS, token_ids
from lorascope.zoo.bases.faces.similarity import (
    clip_score,
    fidelity,
    image_features,
    text_features,
)
from lorascope.zoo.bases.faces.tokenizer import new_tokenizer


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    clip = new_clip(tokenizer).eval()
    ids = token_ids(tokenizer, PROMPTS[:4])
    return clip, ids, torch.rand(4, 3, 32, 32) * 2 - 1


def test_features_are_those_of_transformers(seen):
    clip, ids, pictures = seen
    with torch.no_grad():
        expected = clip(input_ids=ids, pixel_values=pictures)
    assert torch.allclose(image_features(clip, pictures), expected.image_embeds, atol=1e-6)
    assert torch.allclose(text_features(clip, ids), expected.text_embeds, atol=1e-6)


def test_many_models_are_scored_as_each_alone(seen):
    clip, ids, pictures = seen
    texts = text_features(clip, ids)
    both = torch.stack((pictures, pictures.flip(0)))
    features = image_features(clip, both)
    scores = clip_score(features, texts)
    assert scores.shape == (2,)
    cosines = torch.nn.functional.cosine_similarity(features[1], texts, dim=1)
    assert float(scores[1]) == pytest.approx(100 * float(cosines.clamp(min=0).mean()), abs=1e-3)


def test_fidelity_is_the_mean_over_all_pairs():
    a, b = torch.eye(3)[None], torch.eye(3)[:1]
    assert float(fidelity(a, b)) == pytest.approx(100 / 3, abs=1e-4)
