"""Likeness: distances are those of the definition, however small, and leading components keep them."""

import torch

from lorascope.models.likeness import alike, apart, leading, principal, some_rows, usual_distance

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))


def test_nearness_is_that_of_the_squared_distance():
    usual = usual_distance(X)
    far = torch.cdist(X.double(), X.double()).square() / usual
    found = alike(apart(X, X, usual), {"wide": 0.1, "narrow": 2.0})
    for name, t in (("wide", 0.1), ("narrow", 2.0)):
        torch.testing.assert_close(found[name], (-t * far).exp(), rtol=1e-9, atol=1e-12)


def test_the_usual_distance_is_the_median_of_those_that_differ():
    twice = torch.cat([X, X])
    far = torch.pdist(X).square()
    assert float(far.min()) <= float(usual_distance(twice)) <= float(far.max())
    assert float(usual_distance(torch.ones(5, 2))) == 1.0


def test_leading_components_keep_the_distances_of_rows_in_a_plane():
    plane = X[:, :2] @ torch.randn(2, 7, generator=torch.Generator().manual_seed(1))
    found = leading(plane, 2)
    assert found.shape == (40, 2)
    torch.testing.assert_close(torch.pdist(found), torch.pdist(plane), rtol=1e-4, atol=1e-4)
    assert leading(plane, 7) is plane


def test_principal_directions_are_orthonormal():
    found = principal(X, 3)
    torch.testing.assert_close(found.T @ found, torch.eye(3))


def test_landmarks_are_the_same_rows_for_as_many_loras():
    found = some_rows(X, 7)
    assert len(set(found.tolist())) == 7
    assert found.tolist() == sorted(found.tolist())
    assert torch.equal(found, some_rows(torch.zeros(40), 7))
