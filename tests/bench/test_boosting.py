"""Boosted trees on spectra: what they find, classes that never vary, their place in a benchmark."""

import numpy as np
import pytest

from lorascope.bench.boosting import BOOSTING, boosting_predictions, boosting_scores
from lorascope.bench.run import run_bench
from lorascope.train.fit import default_split
from tests.planted import planted

DATA = planted(100)
SPLIT = default_split(DATA, 0)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr("lorascope.bench.boosting.DIALS", ((4, 5), (4, 40)))


def test_sizes_are_found():
    test, validation, seconds = boosting_scores(DATA, "score", SPLIT)
    assert test["r2"] > 0.3
    assert set(test) == set(validation)
    assert seconds > 0


@pytest.mark.parametrize("target", ["sources", "kind"])
def test_probabilities_are_probabilities(target):
    test, held = boosting_predictions(DATA, target, SPLIT)
    assert len(test) == len(SPLIT.test)
    assert len(held) == len(SPLIT.validation)
    assert ((test >= 0) & (test <= 1)).all()
    if target == "kind":
        np.testing.assert_allclose(test.sum(1), 1)


def test_a_class_that_never_varies_in_training_is_survived():
    labels = {name: values.copy() for name, values in DATA.labels.items()}
    labels["sources"][SPLIT.train, 0] = 0
    labels["kind"][SPLIT.train] = [1, 0, 0]
    data = type(DATA)(DATA.batch, DATA.targets, labels, DATA.groups, DATA.hyper)
    assert (boosting_predictions(data, "sources", SPLIT)[0][:, 0] == 0).all()
    assert (boosting_predictions(data, "kind", SPLIT)[0] == [1, 0, 0]).all()
    labels["kind"][SPLIT.train[0]] = [0, 0, 1]
    assert (boosting_predictions(data, "kind", SPLIT)[0][:, 1] == 0).all()


def test_it_stands_in_a_benchmark_by_its_name(tmp_path):
    found = run_bench(
        DATA, tmp_path, targets=["score"], models=[BOOSTING], seeds=[0], processes=1, progress=False
    )
    (result,) = (r for r in found if not r.control)
    assert result.model == BOOSTING
    assert result.error is None
    assert result.metrics == boosting_scores(DATA, "score", SPLIT)[0]
    assert sum(result.rows.values()) == len(DATA)
