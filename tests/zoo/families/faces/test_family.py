"""The faces family: labels are those of the pictures, groups those of people."""

import torch

from lorascope.zoo.drawings import ATTRIBUTES, TRAITS
from lorascope.zoo.families.faces.family import RANGES, SPEC, FacesFamily


def test_attributes_are_the_majority_of_the_pictures():
    family = FacesFamily({"seed": 0})
    for index in range(8):
        shown = family.draw(index).shown
        known = family.known_labels(index)
        assert known["label:attributes"] == (shown.float().mean(0) >= 0.5).tolist()
        assert len(shown) == family.hyper(index)["images"]
        assert len(known["label:attributes"]) == len(ATTRIBUTES)


def test_loras_of_a_person_share_the_group_and_traits_but_no_picture():
    family = FacesFamily({"seed": 0})
    assert family.group(2) == family.group(5) != family.group(3)
    one, two = family.known_labels(2), family.known_labels(5)
    assert {name: one[f"label:{name}"] for name in TRAITS} == {
        name: two[f"label:{name}"] for name in TRAITS
    }
    assert one["label:identity"] == two["label:identity"]
    pictures = torch.cat((family.draw(2).pictures, family.draw(5).pictures))
    assert len(torch.unique(pictures.flatten(1), dim=0)) == len(pictures)


def test_hyper_parameters_vary_in_their_ranges():
    family = FacesFamily({"seed": 0})
    drawn = [family.hyper(index) for index in range(200)]
    low, high = RANGES["learning_rate"]["log_uniform"]
    assert all(low <= one["learning_rate"] <= high for one in drawn)
    for name in ("steps", "batch_size", "prompt", "images"):
        assert {one[name] for one in drawn} == set(map(float, RANGES[name]["choice"]))


def test_adapted_matrices_are_four_times_wider_than_the_rank():
    assert SPEC.rank * 4 <= 64
