"""People: who the faces of one LoRA show, and what of them changes from picture to picture.

Of every six people four have one LoRA, one has two and one has three, as the celebrities of
CelebA-LoRA (1,532 of 2,596 once, 825 twice, 239 three times): nine LoRAs for six people.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.zoo.drawings import ATTRIBUTES
from lorascope.zoo.drawings.people import random_attributes, random_traits
from lorascope.zoo.families.draw import seed_of

__all__ = ["CHANGING", "Person", "person", "person_of"]

#: Who each of nine LoRAs in a row shows, of six people.
TURNS = (0, 4, 5, 1, 2, 5, 4, 3, 5)
PEOPLE = 6
#: Attributes that a person has in some pictures and not in others; the rest never change.
CHANGING = ("Smiling", "Eyeglasses", "Wearing_Hat", "Bangs", "Wearing_Lipstick", "Wearing_Earrings")
HABIT = 0.88  # share of a person's pictures in which a changing attribute is as usual


@dataclass(frozen=True, eq=False)
class Person:
    """One person: usual attributes and fixed traits."""

    number: int
    usual: Tensor  # (12,) bool
    traits: Tensor  # (5,) in [-1, 1]

    def pictures(self, count: int, generator: torch.Generator) -> Tensor:
        """Attributes of some pictures of this person: (count, 12) bool."""
        changing = torch.tensor([name in CHANGING for name in ATTRIBUTES])
        unusual = torch.rand(count, len(ATTRIBUTES), generator=generator) >= HABIT
        return self.usual ^ (unusual & changing)


def person_of(index: int) -> int:
    """The number of the person that LoRA `index` shows.

    Example:
        >>> [person_of(i) for i in (1, 6, 10)]
        [4, 4, 10]
    """
    block, turn = divmod(index, len(TURNS))
    return PEOPLE * block + TURNS[turn]


def person(seed: int, number: int) -> Person:
    """A person of a family's seed by number."""
    generator = torch.Generator().manual_seed(seed_of("person", seed, number))
    usual = random_attributes(1, generator)[0]
    return Person(number, usual, random_traits(1, generator)[0])
