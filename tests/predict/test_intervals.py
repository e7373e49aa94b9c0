import math

import numpy as np
import pytest

from lorascope.errors import DataError
from lorascope.predict.intervals import Interval, coverage, fit_interval, grouped_quantile


def test_without_groups_it_is_split_conformal_prediction():
    errors = np.random.default_rng(0).exponential(size=99)
    expected = np.sort(errors)[int(np.ceil(100 * 0.9)) - 1]
    found = fit_interval(errors)
    assert found == Interval(expected, 99)
    assert found.around(1.0) == (1 - expected, 1 + expected)


def test_too_few_give_no_interval():
    assert fit_interval(np.ones(8)) is None
    assert fit_interval(np.ones(9)).half == 1
    assert math.isinf(grouped_quantile(np.zeros(0), [], 0.9))
    # many LoRAs, few groups
    assert fit_interval(np.ones(80), [str(i % 8) for i in range(80)]) is None


def test_each_group_counts_once():
    errors = np.concatenate([np.full(100, 5.0), np.arange(39) / 39])
    groups = ["many"] * 100 + [str(i) for i in range(39)]
    assert fit_interval(errors, groups, 0.5).half < 0.6
    assert fit_interval(errors, None, 0.5).half == 5


def test_new_groups_are_covered_as_often_as_is_said():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        effect = rng.normal(size=80).repeat(2)
        errors = np.abs(effect + 0.3 * rng.normal(size=160))
        groups = [str(i // 2) for i in range(160)]
        half = grouped_quantile(errors[:80], groups[:80], 0.9)
        inside.append((errors[80:] <= half).mean())
    assert 0.89 < np.mean(inside) < 0.93


def test_coverage_over_divisions_keeps_groups_together():
    rng = np.random.default_rng(1)
    errors = np.abs(rng.normal(size=300).repeat(2))
    found = coverage(errors, [str(i // 2) for i in range(600)])
    assert 0.88 < found.mean < 0.92
    assert found.lowest <= found.mean <= found.highest
    assert 0 < found.std < 0.06
    assert found.repetitions == 50
    assert set(found.to_json()) == {"mean", "std", "lowest", "highest", "half", "repetitions"}
    assert coverage(errors, [str(i // 2) for i in range(600)]) == found


def test_sets_of_classes():
    sets = Interval(0.7, 99)
    assert sets.classes({"a": 0.5, "b": 0.35, "c": 0.15}) == ("a", "b")
    assert Interval(0.1, 99).classes({"a": 0.5, "b": 0.5}) == ("a",)


def test_there_and_back_and_what_is_refused():
    assert Interval.from_json(Interval(0.5, 20, 0.8).to_json()) == Interval(0.5, 20, 0.8)
    with pytest.raises(DataError, match="half width"):
        Interval(-1.0, 3)
    with pytest.raises(DataError, match="not finite"):
        fit_interval(np.array([np.nan]))
    with pytest.raises(DataError, match="one for each"):
        fit_interval(np.ones(3), ["a"])
    with pytest.raises(DataError, match="at least 20"):
        coverage(np.ones(10))
