"""Every module of real (small) models gets its dots back."""

import pytest

from lorascope.io.names.flatten import VOCABULARIES, unflatten
from tests.io.adapters import llama
from tests.io.networks import clip, flux, matrices, sd3, t5, unet

MODELS = {"unet": unet, "flux_diffusers": flux, "clip": clip, "t5": t5, "llm": llama}


@pytest.mark.parametrize("vocabulary", MODELS)
def test_every_name_comes_back(vocabulary):
    names = list(matrices(MODELS[vocabulary]()))
    assert len(names) >= 10
    for name in names:
        assert unflatten(name.replace(".", "_"), vocabulary) == name


def test_the_blocks_of_sd3_come_back():
    for name in matrices(sd3()):
        if name.startswith("transformer_blocks"):
            assert unflatten(name.replace(".", "_"), "flux_diffusers") == name


def test_a_name_with_a_strange_word_is_left_alone():
    assert unflatten("down_blocks_0_riddle_1_to_q", "unet") is None
    assert all(unflatten("riddle", vocabulary) is None for vocabulary in VOCABULARIES)
