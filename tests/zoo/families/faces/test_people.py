"""People: nine LoRAs show six of them; habits hold in most pictures."""

from collections import Counter

import torch

from lorascope.zoo.drawings import ATTRIBUTES
from lorascope.zoo.families.faces.people import CHANGING, HABIT, person, person_of


def test_a_third_of_2600_people_have_two_or_three_of_3900_loras():
    loras = Counter(person_of(i) for i in range(3900))
    assert len(loras) in range(2595, 2605)
    by_count = Counter(loras.values())
    assert set(by_count) == {1, 2, 3}
    assert abs((by_count[2] + by_count[3]) / len(loras) - 1 / 3) < 0.01


def test_a_person_follows_from_seed_and_number():
    one, again, other = person(0, 7), person(0, 7), person(1, 7)
    assert torch.equal(one.traits, again.traits)
    assert not torch.equal(one.traits, other.traits)
    assert torch.equal(one.usual, again.usual)


def test_only_changing_attributes_change_and_habits_hold():
    generator = torch.Generator().manual_seed(0)
    changing = torch.tensor([name in CHANGING for name in ATTRIBUTES])
    who = person(0, 3)
    pictures = who.pictures(3000, generator)
    as_usual = (pictures == who.usual).float().mean(0)
    assert bool((as_usual[~changing] == 1).all())
    assert float((as_usual[changing] - HABIT).abs().max()) < 0.03
