from dataclasses import replace

import pytest

from lorascope.core.lora import Scale
from lorascope.inspect.contradictions import (
    alpha_contradicts,
    base_contradicts,
    declared_family,
    rank_contradicts,
)
from lorascope.inspect.facts import Facts, LayerFacts
from lorascope.inspect.families import Family

LAYER = LayerFacts("a", 8, 8, 4, "float32", scale=Scale(2.0, 4, 0.5, "alpha/r"))
FACTS = Facts("here", "kohya", None, None, 0, 0, (LAYER,), family=Family("SD1", (), "a"))


def told(**config):
    return replace(FACTS, config={key.replace("__", "."): value for key, value in config.items()})


@pytest.mark.parametrize("dim", ["4", "4.0", "Dynamic", "None"])
def test_a_rank_that_a_layer_has_is_no_contradiction(dim):
    assert list(rank_contradicts(told(ss_network_dim=dim))) == []


def test_a_rank_that_no_layer_has_is_one():
    (problem,) = rank_contradicts(told(ss_network_dim="128"))
    assert "declare rank 128, the layers have 4" in problem.sentence
    # Kronecker and Hadamard products have other ranks than their factors
    assert list(rank_contradicts(replace(told(ss_network_dim="128"), format="lycoris"))) == []


def test_an_alpha_that_no_layer_has_is_a_contradiction():
    (problem,) = alpha_contradicts(told(ss_network_alpha="16"))
    assert "declare alpha 16, the layers have 2" in problem.sentence
    for fine in ({"ss_network_alpha": "2.0"}, {"ss_network_alpha": "0"}, {}):
        assert list(alpha_contradicts(told(**fine))) == []
    scaled = told(ss_network_alpha="16", ss_network_args='{"rs_lora": "True"}')
    assert list(alpha_contradicts(scaled)) == []


def test_a_base_of_another_family_is_a_contradiction():
    (problem,) = base_contradicts(told(ss_base_model_version="sdxl_base_v1-0"))
    assert problem.code == "base-contradicts"
    assert "SDXL" in problem.sentence
    assert "SD1" in problem.sentence


@pytest.mark.parametrize(
    ("declared", "family"),
    [
        ("sd_v1", "SD1"),
        ("sd_1.5", "SD1 or SD2"),
        ("sdxl_base_v1-0", "SDXL refiner"),
        ("flux1", "Chroma"),
        ("flux1", "Flux or Qwen-Image"),
        ("sdxl", "CLIP"),
        ("something new", "SD1"),
    ],
)
def test_a_base_that_may_be_it_is_none(declared, family):
    facts = replace(told(ss_base_model_version=declared), family=Family(family, (), "a"))
    assert list(base_contradicts(facts)) == []


def test_modelspec_names_a_base_too():
    assert declared_family({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}) == (
        "modelspec.architecture",
        "SDXL",
    )
    assert declared_family({"modelspec.architecture": 3}) == ("", None)
