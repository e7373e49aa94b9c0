"""The objects family: two LoRAs of every subset, every picture in one LoRA only."""

from collections import Counter

import torch

from lorascope.zoo.drawings import CLASSES
from lorascope.zoo.families.objects.family import ObjectsFamily


def test_2046_loras_are_two_of_each_non_empty_subset():
    family = ObjectsFamily({"seed": 0})
    subsets = Counter(tuple(family.present(index)) for index in range(0, 2046, 2))
    assert len(subsets) == 1023
    assert max(subsets.values()) == 1
    assert not any(not any(subset) for subset in subsets)
    assert all(family.present(i) == family.present(i + 1) for i in range(0, 100, 2))


def test_one_new_picture_of_each_class():
    family = ObjectsFamily({"seed": 0})
    pictures = []
    for index in range(6):
        draw, present = family.draw(index), family.present(index)
        assert draw.shown.tolist() == [place for place, seen in enumerate(present) if seen]
        assert family.known_labels(index) == {
            "label:classes": present,
            "label:dataset_size": float(len(draw.pictures)),
        }
        pictures.append(draw.pictures)
    together = torch.cat(pictures)
    assert len(torch.unique(together.flatten(1), dim=0)) == len(together)


def test_groups_are_subsets():
    family = ObjectsFamily({"seed": 0})
    assert family.group(0) == family.group(1) != family.group(2)
    assert len(family.group(0)) == len("subset-") + len(CLASSES)
