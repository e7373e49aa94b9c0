"""Rounding: small tables stay as they are, large ones hold the nearest numbers of 8 bits."""

import torch

from lorascope.models.rounding import ROUNDED_FROM, rounded


def test_large_tables_are_rounded_and_keep_their_type():
    x = torch.linspace(0.1, 1, ROUNDED_FROM)
    found = rounded(x)
    assert found.dtype == x.dtype
    assert torch.equal(found.bfloat16().float(), found)
    assert 0 < float(((found - x) / x).abs().max()) <= 2**-8


def test_small_tables_stay_as_they_are():
    x = torch.linspace(0.1, 1, 100)
    assert rounded(x) is x
