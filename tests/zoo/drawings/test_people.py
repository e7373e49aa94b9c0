"""Random people: shares as asked for, traits in range."""

import torch

from lorascope.zoo.drawings.faces import ATTRIBUTES
from lorascope.zoo.drawings.people import EVEN, random_attributes, random_traits


def test_shares_are_those_of_women_and_of_men():
    drawn = random_attributes(20_000, torch.Generator().manual_seed(0)).float()
    male = drawn[:, 0].bool()
    for place, name in enumerate(ATTRIBUTES[1:], 1):
        for share, who in zip(EVEN[name], (~male, male), strict=True):
            assert abs(float(drawn[who, place].mean()) - share) < 0.02, name
    assert abs(float(male.float().mean()) - 0.5) < 0.02


def test_other_shares_may_be_asked_for():
    never = {**EVEN, "Smiling": (0.0, 0.0)}
    drawn = random_attributes(500, torch.Generator().manual_seed(0), never)
    assert not bool(drawn[:, ATTRIBUTES.index("Smiling")].any())


def test_traits_fill_their_range():
    traits = random_traits(2000, torch.Generator().manual_seed(0))
    assert traits.shape == (2000, 5)
    assert bool((traits.amin(0) < -0.98).all())
    assert bool((traits.amax(0) > 0.98).all())
