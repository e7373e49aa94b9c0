from collections import Counter

import pytest

from lorascope.io.folds import FRACTIONS, SPLITS, fold_of, group_place


def test_the_place_of_a_group_is_fixed_for_all_time():
    assert group_place("anna", 0) == pytest.approx(0.2575730237350985, abs=1e-12)


def test_folds_have_their_fractions_and_another_seed_draws_others():
    names = [f"group-{number}" for number in range(2000)]
    folds = [fold_of(name) for name in names]
    shares = Counter(folds)
    assert [shares[fold] / 2000 for fold in range(3)] == pytest.approx(FRACTIONS, abs=0.03)
    assert folds != [fold_of(name, seed=1) for name in names]


def test_what_a_zoo_says_is_what_is_done():
    assert SPLITS["fractions"] == list(FRACTIONS)
    place = group_place("anna", 3)
    assert fold_of("anna", (place, 1 - place, 0.0), seed=3) == 1  # exceeds, not reaches
    assert fold_of("anna", (place + 1e-9, 1 - place, 0.0), seed=3) == 0
