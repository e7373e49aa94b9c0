"""Frozen convolutions in C against torch's; skipped where no C compiler works."""

import pytest
import torch
import torch.nn.functional as F

from lorascope.zoo.engine.image import quick
from lorascope.zoo.engine.image.quick_convolution import Frozen, convolution, fits

pytestmark = pytest.mark.skipif(quick.library() is None, reason="no C compiler")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(a, b):
    return float((a.double() - b).norm() / b.norm())


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("n", "c", "d", "side"),
    [
        (21, 64, 64, (4, 4)),
        (5, 24, 40, (5, 7)),  # tiles reach beyond it
        (9, 96, 32, (8, 8)),
        (3, 8, 8, (16, 16)),
        (2, 16, 16, (32, 32)),
        (50, 8, 16, (3, 3)),
    ],
)
def test_a_convolution_and_its_gradient(n, c, d, side, times):
    weight, bias, x = randn(d, c, 3, 3), randn(d, seed=1), randn(n, c, *side, seed=2)
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    y = convolution(mine, Frozen(weight), bias, times)
    wide = F.interpolate(theirs, scale_factor=times, mode="nearest")
    wanted = F.conv2d(wide, weight.double(), bias.double(), 1, 1)
    assert error(y.detach(), wanted.detach()) < 2e-6
    g = randn(*y.shape, seed=3)
    (found,) = torch.autograd.grad(y, mine, g)
    assert error(found, torch.autograd.grad(wanted, theirs, g.double())[0]) < 2e-6


def test_a_picture_is_the_same_whatever_stands_beside_it():
    frozen, x = Frozen(randn(40, 24, 3, 3)), randn(37, 24, 4, 4, seed=1)
    whole = convolution(x, frozen, None)
    assert all(torch.equal(convolution(x[i : i + 1], frozen, None)[0], whole[i]) for i in range(37))
    x[5, 2, 1, 1] = float("inf")
    x[6, 2, 1, 1] = float("nan")
    beside = convolution(x, frozen, None)
    others = [i for i in range(37) if i not in {5, 6}]
    assert torch.equal(beside[others], whole[others])
    assert beside[6].isnan().any()


def test_which_are_made_tile_by_tile():
    frozen = Frozen(randn(8, 16, 3, 3))
    assert [frozen.tiled(*side) for side in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 7), (5, 1))] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert not Frozen(torch.zeros(1).expand(1280, 1280, 3, 3)).tiled(8, 8)
    x = randn(1, 16, 8, 8)
    assert frozen.alone(x, 1, 1, 1)
    assert not frozen.alone(x, 2, 1, 1)
    assert not frozen.alone(x, 1, 0, 1)
    assert not frozen.alone(x.double(), 1, 1, 1)
    assert not Frozen(randn(8, 4, 3, 3)).alone(randn(1, 4, 8, 8), 1, 1, 1)
    assert not Frozen(randn(8, 16, 1, 1)).alone(x, 1, 1, 1)
    assert not fits(torch.zeros(1, 320, 64, 64), 320)
    assert not fits(torch.zeros(1, 8, 4, 4, dtype=torch.bfloat16), 8)
