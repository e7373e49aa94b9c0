"""Random people and random things: the values that the drawings are drawn from.

Male = m, and given Male the attributes are independent:
a beard mostly on men, lipstick and ear rings mostly on women, all the rest on either.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorascope.zoo.drawings.faces import ATTRIBUTES, TRAITS

__all__ = ["EVEN", "random_attributes", "random_traits"]

#: The share of faces with each attribute, among women and among men.
EVEN: dict[str, tuple[float, float]] = {
    "Male": (0.5, 0.5),
    "Young": (0.55, 0.55),
    "Smiling": (0.5, 0.5),
    "Eyeglasses": (0.4, 0.4),
    "Wearing_Hat": (0.4, 0.4),
    "Blond_Hair": (0.45, 0.4),
    "Bangs": (0.5, 0.4),
    "No_Beard": (0.92, 0.4),
    "Wearing_Lipstick": (0.65, 0.15),
    "Big_Lips": (0.5, 0.45),
    "Wearing_Earrings": (0.6, 0.25),
    "Big_Nose": (0.4, 0.5),
}


def random_attributes(
    count: int,
    generator: torch.Generator,
    shares: dict[str, tuple[float, float]] | None = None,
) -> Tensor:
    """Attributes of random faces: (count, 12) bool."""
    table = torch.tensor(_in_order(shares or EVEN))  # (12, 2)
    draws = torch.rand(count, len(ATTRIBUTES), generator=generator)
    male = draws[:, 0] < table[0, 0]
    drawn = draws < table.T[male.long()]
    drawn[:, 0] = male
    return drawn


def random_traits(count: int, generator: torch.Generator) -> Tensor:
    """Traits of random people, uniform in [-1, 1]: (count, 5)."""
    return 2 * torch.rand(count, len(TRAITS), generator=generator) - 1


def _in_order(shares: dict[str, tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return [shares[name] for name in ATTRIBUTES]
