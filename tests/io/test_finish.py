"""Natural order, and values that are not finite."""

import torch

from lorascope.core import LowRank
from lorascope.core.lora import Side
from lorascope.io.finish import is_finite, natural, nonfinite_note


def test_layer_2_comes_before_layer_10():
    assert sorted(["a.10.b", "a.2.b", "a.b"], key=natural) == ["a.2.b", "a.10.b", "a.b"]


def test_a_sum_that_overflows_is_no_infinity():
    assert is_finite([torch.full((4,), 3e38)])
    assert not is_finite([torch.tensor([1.0, float("nan")])])
    assert is_finite([torch.tensor([1, 2])])


def test_the_first_broken_layer_is_named():
    layers = {"good": LowRank(torch.ones(2, 1), torch.ones(3, 1))}
    assert nonfinite_note(layers, {}) == ()
    side = {"bad": Side("bias", torch.tensor([float("inf")]))}
    (note,) = nonfinite_note(layers, side)
    assert note.startswith("nonfinite: 1 layers")
    assert "'bad'" in note
