"""Faces: every attribute is seen, whatever the others are; traits change faces continuously."""

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.drawings.faces import ATTRIBUTES, TRAITS, draw_faces
from lorascope.zoo.drawings.people import random_attributes, random_traits

COUNT = 200


def drawn(attributes, traits, seed=5):
    return draw_faces(attributes, traits, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("place", range(len(ATTRIBUTES)), ids=ATTRIBUTES)
def test_an_attribute_is_seen_beside_all_others(place):
    generator = torch.Generator().manual_seed(1)
    attributes, traits = random_attributes(COUNT, generator), random_traits(COUNT, generator)
    other = attributes.clone()
    other[:, place] ^= True
    changed = (drawn(attributes, traits) - drawn(other, traits)).abs().amax(1)  # (b, 32, 32)
    seen = (changed > 0.08).sum((1, 2))  # pixels, of 1024
    assert int(seen.min()) >= 4
    assert float(seen.float().quantile(0.1)) >= 9


@pytest.mark.parametrize("place", range(len(TRAITS)), ids=TRAITS)
def test_a_trait_moves_the_face_a_little_by_little(place):
    generator = torch.Generator().manual_seed(2)
    attributes = random_attributes(50, generator)
    attributes[:, ATTRIBUTES.index("Blond_Hair")] = False  # hair_tone is of dark hair
    traits = random_traits(50, generator)
    low, middle, high = (traits.clone() for _ in range(3))
    for level, value in ((low, -0.8), (middle, 0.0), (high, 0.8)):
        level[:, place] = value
    near = (drawn(attributes, low) - drawn(attributes, middle)).abs().mean()
    far = (drawn(attributes, low) - drawn(attributes, high)).abs().mean()
    assert float(far) > 1.1 * float(near) > 0.002


def test_equal_seeds_draw_equal_pictures_and_others_do_not():
    generator = torch.Generator().manual_seed(3)
    attributes, traits = random_attributes(4, generator), random_traits(4, generator)
    first = drawn(attributes, traits)
    assert torch.equal(first, drawn(attributes, traits))
    assert not torch.equal(first, drawn(attributes, traits, seed=6))
    assert first.shape == (4, 3, 32, 32)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_wrong_shapes_are_refused():
    with pytest.raises(DataError, match=r"drawing faces.*\(2, 12\)"):
        draw_faces(torch.zeros(2, 11).bool(), torch.zeros(2, 5), torch.Generator())
