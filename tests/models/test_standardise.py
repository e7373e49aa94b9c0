"""Standardise: statistics of the training set, constant columns, entries that do not count."""

import torch

from lorascope.models.standardise import Standardise


def test_training_columns_get_mean_zero_and_deviation_one():
    x = torch.randn(50, 3, dtype=torch.float64) * torch.tensor([1.0, 1e-4, 1e4]) + 5
    standardise = Standardise(3).double()
    standardise.fit(x)
    out = standardise(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(out.std(0, correction=0), torch.ones(3).double())


def test_identity_before_fit_and_after_an_empty_one():
    x = torch.randn(4, 3)
    standardise = Standardise(3)
    standardise.fit(x[:0])
    assert torch.equal(standardise(x), x)


def test_a_column_that_never_varied_is_silent():
    x = torch.tensor([[0.0, 7.0, 1.0], [0.0, 7.0, 2.0]])
    standardise = Standardise(3)
    standardise.fit(x)
    out = standardise(torch.tensor([[3.0, 8.0, 1.0]]))
    assert out.tolist() == [[0.0, 0.0, -1.0]]


def test_rounding_noise_of_a_constant_is_no_variation():
    x = torch.full((8, 1), 0.1) * (1 + 1e-7 * torch.randn(8, 1))
    standardise = Standardise(1)
    standardise.fit(x)
    assert standardise.scale.item() == 0


def test_entries_left_out_do_not_count():
    x = torch.tensor([[1.0, 5.0], [3.0, 999.0], [999.0, 7.0]])
    keep = torch.tensor([[True, True], [True, False], [False, True]])
    standardise = Standardise(2)
    standardise.fit(x, keep)
    assert standardise.mean.tolist() == [2.0, 6.0]
    assert standardise.scale.tolist() == [1.0, 1.0]


def test_a_column_without_entries_is_silent():
    standardise = Standardise(1)
    standardise.fit(torch.ones(3, 1), torch.zeros(3, 1, dtype=torch.bool))
    assert standardise(torch.ones(2, 1)).tolist() == [[0.0], [0.0]]


def test_what_lies_far_is_cut():
    standardise = Standardise(1)
    standardise.fit(torch.tensor([[1.0], [3.0]]))
    assert standardise.cut(torch.tensor([[2.5], [-90.0], [90.0]])).tolist() == [
        [0.5],
        [-4.0],
        [4.0],
    ]
    lost = standardise.cut(torch.tensor([[float("inf")], [float("nan")]]))
    assert not lost.isfinite().any()
