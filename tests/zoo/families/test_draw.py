"""Seeds and hyper-parameters."""

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.families.draw import drawn, seed_of


def values(rule, count=400):
    generator = torch.Generator().manual_seed(0)
    return [drawn(rule, generator) for _ in range(count)]


def test_seeds_differ_by_every_part():
    seeds = {seed_of(name, seed, i) for name in "ab" for seed in range(3) for i in range(3)}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_rules_keep_their_ranges():
    assert set(values({"choice": [1, 2]})) == {1.0, 2.0}
    uniform = values({"uniform": [2, 3]})
    assert 2 <= min(uniform) < 2.05 < 2.95 < max(uniform) <= 3
    scaled = sorted(values({"log_uniform": [1e-4, 1e-2]}))
    assert 5e-4 < scaled[200] < 2e-3


def test_unknown_rules_are_refused():
    with pytest.raises(DataError, match="gaussian"):
        values({"gaussian": [0, 1]}, 1)
