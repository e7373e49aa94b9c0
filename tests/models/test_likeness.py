"""Likeness: distances are those of the definition, however small, and leading components keep them."""

import pytest
import torch

from lorascope.models import likeness as module
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


needs_kernel = pytest.mark.skipif(
    module.wide_kernel("likeness", "apart") is None,
    reason="no C compiler, or a processor that it is not for",
)


@needs_kernel
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (5, 13, 3), (70, 131, 9), (64, 64, 40), (3, 200, 337)]
)
def test_the_kernels_find_what_torch_finds(sizes, monkeypatch):
    b, m, width = sizes
    generator = torch.Generator().manual_seed(0)
    x, landmarks = (torch.randn(n, width, generator=generator) for n in (b, m))
    landmarks[0] = x[0]  # no distance at all
    usual, widths = torch.tensor(2.0 * width), {"wide": 0.06, "narrow": 1.0, "far": 1e4}
    far = apart(x, landmarks, usual)
    near = alike(far, widths)
    monkeypatch.setattr(module, "LEAST", 0)
    found = apart(x, landmarks, usual)
    torch.testing.assert_close(found, far, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alike(far, widths), near, rtol=1e-12, atol=1e-300)
    rows = apart(x.T.contiguous().T, landmarks.T.contiguous().T, usual)  # columns first
    assert torch.equal(rows, found)


@needs_kernel
def test_the_kernels_leave_gradients_and_other_types_to_torch(monkeypatch):
    monkeypatch.setattr(module, "LEAST", 0)
    x = X.clone().requires_grad_()
    alike(apart(x, X[:7], torch.tensor(2.0)), {"": 1.0})[""].sum().backward()
    assert bool((x.grad[10:] != 0).any())
    wide = apart(X.double(), X[:7].double(), torch.tensor(2.0))
    torch.testing.assert_close(wide, apart(X, X[:7], torch.tensor(2.0)))
    x = X.clone()
    x[3, 1] = torch.nan
    near = alike(apart(x, X[:7], torch.tensor(2.0)), {"": 1.0})[""]
    assert near.isnan().all(1).nonzero().flatten().tolist() == [3]
