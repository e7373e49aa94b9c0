"""What is known beside a label: standardised, logarithms of what spans sizes, missing entries at the mean."""

from dataclasses import replace

import numpy as np
import torch

from lorascope.core import LoRA, LowRank
from lorascope.predict.target import Target
from lorascope.train.beside import known_beside
from lorascope.train.data import label_loras
from lorascope.train.fit import fit
from lorascope.train.splits import Split

GENERATOR = torch.Generator().manual_seed(0)
COUNT = 8
ROWS = np.arange(COUNT)


def pair(n, m):
    return LowRank(torch.randn(n, 1, generator=GENERATOR), torch.randn(m, 1, generator=GENERATOR))


LORAS = [LoRA({"q": pair(4, 3)}) for _ in range(COUNT)]
TARGETS = [Target("score", "regression"), Target("kind", "multilabel", ("a", "b"))]
LABELS = {"score": np.arange(COUNT) * 2.0, "kind": np.eye(2)[ROWS % 2]}


def data(**hyper):
    return label_loras(LORAS, LABELS, TARGETS, groups=[str(i) for i in ROWS], hyper=hyper)


def test_labels_of_every_target_are_standardised():
    found = known_beside(data(), ROWS)
    assert found.shape == (COUNT, 3)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(0), 1)
    np.testing.assert_allclose(found[:, 1], -found[:, 2])


def test_hyper_parameters_that_span_sizes_enter_by_their_logarithm():
    rate = 10.0 ** -np.arange(COUNT)
    found = known_beside(data(rate=rate, batch=[1.0, 2.0] * 4, same=[3.0] * COUNT), ROWS)
    assert found.shape == (COUNT, 5)  # what does not vary is left out
    np.testing.assert_allclose(np.diff(found[:, 3]), np.diff(found[:, 3])[0])


def test_hyper_parameters_that_are_targets_stand_there_once():
    assert known_beside(data(score=np.arange(COUNT)), ROWS).shape == (COUNT, 3)


def test_missing_entries_are_at_the_mean_and_columns_that_few_know_are_left_out():
    half = np.where(ROWS < 5, ROWS, np.nan)
    few = np.where(ROWS < 3, ROWS, np.nan)
    found = known_beside(data(half=half, few=few), ROWS)
    assert found.shape == (COUNT, 4)
    np.testing.assert_array_equal(found[5:, 3], 0)
    np.testing.assert_allclose(found[:5, 3].mean(), 0, atol=1e-12)


def test_only_the_rows_asked_for_are_read():
    whole = data()
    spoilt = whole.labels["score"].copy()
    spoilt[4:] = 1e6
    changed = replace(whole, labels={**whole.labels, "score": spoilt})
    rows = np.arange(4)
    np.testing.assert_array_equal(known_beside(whole, rows), known_beside(changed, rows))


def test_no_row_and_no_column():
    assert known_beside(data(), np.arange(0)).shape[0] == 0


def test_labels_of_test_rows_say_nothing():
    """A predictor is the same whatever stands beside the label in rows that it must not see."""
    whole = data(rate=np.arange(COUNT) + 1.0)
    split = Split(np.arange(5), np.array([5]), np.array([6, 7]))
    kind = whole.labels["kind"].copy()
    kind[5:] = 1 - kind[5:]
    other = replace(whole, labels={**whole.labels, "kind": kind})
    first, second = (
        fit(x, "score", model="fusion", split=split, trust=False).outputs(whole.batch)
        for x in (whole, other)
    )
    np.testing.assert_array_equal(first, second)
