"""Sampled labels: each model is scored as if it were alone, on noise that all share."""

import pytest
import torch

from lorascope.zoo.bases.faces.prompts import OWN_PROMPTS, token_ids
from lorascope.zoo.families.image_labels import OWN_SAMPLES, alone, image_scores, own_features

GUIDED = []


def guide_of(unet):
    """A guide for models that are all the base."""

    def guide(texts, empty):
        GUIDED.append(texts.shape)
        return alone(unet)(texts, empty)

    return guide


@pytest.fixture(scope="module")
def scored(brief_base):
    own = token_ids(brief_base.tokenizer, OWN_PROMPTS[:2])
    trained = [torch.zeros(3, 3, 32, 32), torch.ones(5, 3, 32, 32)]
    before = own_features(brief_base, alone(brief_base.unet), own)
    guide = guide_of(brief_base.unet)
    return own, trained, before, image_scores(brief_base, guide, own, trained, before)


def test_every_model_gets_its_scores_and_pictures(scored):
    *_, scores = scored
    assert GUIDED[0] == (2, 33 + OWN_SAMPLES, 22, 64)
    assert scores.pictures.shape == (2, 33 + OWN_SAMPLES, 3, 32, 32)
    assert scores.clip_score.shape == scores.fidelity.shape == (2,)
    # the same model, prompts and noise; only their own prompts and pictures differ
    assert float(scores.clip_score[0]) == pytest.approx(float(scores.clip_score[1]), abs=1e-3)
    # and no model has gained anything on itself
    assert float(scores.fidelity_gain.abs().max()) < 1e-3
    assert float(scores.fidelity[0]) != pytest.approx(float(scores.fidelity[1]), abs=1e-3)


def test_alone_a_model_is_scored_the_same(brief_base, scored):
    own, trained, before, both = scored
    guide = guide_of(brief_base.unet)
    alone = image_scores(brief_base, guide, own[1:], trained[1:], before[1:])
    assert torch.allclose(alone.clip_score, both.clip_score[1:], atol=1e-3)
    assert torch.allclose(alone.fidelity_gain, both.fidelity_gain[1:], atol=1e-3)
    assert torch.allclose(alone.fidelity, both.fidelity[1:], atol=1e-3)
