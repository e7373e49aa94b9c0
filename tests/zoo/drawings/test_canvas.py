"""Soft shapes: right areas, right places, only where asked."""

import pytest
import torch

from lorascope.zoo.drawings.canvas import SIZE, Canvas, uniform


def canvas(count=1, *, x=16.0, y=16.0, scale=1.0, turn=0.0):
    whole = (torch.full((count,), value) for value in (x, y, scale, turn))
    return Canvas(*whole, torch.zeros(count, 3, SIZE, SIZE))


@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_areas_are_those_of_geometry(scale):
    sheet = canvas(scale=scale)
    square = scale**2
    assert float(sheet.ellipse(0, 0, 8.0, 5.0).sum()) == pytest.approx(
        torch.pi * 40 * square, rel=0.1
    )
    assert float(sheet.box(-6, -4, 6, 4).sum()) == pytest.approx(96 * square, rel=0.1)
    triangle = sheet.polygon([(0, -8), (8, 8), (-8, 8)])
    assert float(triangle.sum()) == pytest.approx(128 * square, rel=0.1)
    line = sheet.line(-10, 0, 10, 0, 3.0)
    assert float(line.sum()) == pytest.approx((60 + torch.pi * 2.25) * square, rel=0.1)
    assert float(sheet.ring(0, 0, 8.0, 2.0).sum()) == pytest.approx(32 * torch.pi * square, rel=0.1)


def test_the_frame_moves_and_turns_shapes():
    moved = canvas(x=20.0, y=10.0).ellipse(0, 0, 2.0, 2.0)[0]
    assert moved[9:11, 19:21].min() > 0.9
    assert moved[14:, :].max() < 0.01
    turned = canvas(turn=torch.pi / 2).line(0, 0, 10, 0, 3.0)[0]
    assert turned[20, 16] > 0.9
    assert turned[16, 20] < 0.1


def test_painting_touches_the_chosen_pictures_alone():
    sheet = canvas(2)
    disc = sheet.ellipse(0, 0, 5.0, 5.0)
    sheet.paint(disc, torch.tensor([1.0, 0.5, 0.0]), torch.tensor([True, False]))
    assert torch.allclose(sheet.image[0, :, 16, 16], torch.tensor([1.0, 0.5, 0.0]), atol=1e-3)
    assert float(sheet.image[1].abs().max()) == 0


def test_numbers_may_differ_from_picture_to_picture():
    sheet = canvas(3)
    areas = sheet.ellipse(0, 0, torch.tensor([2.0, 4.0, 8.0]), 4.0).sum((1, 2))
    assert bool((areas.diff() > 10).all())
    assert float(sheet.above(torch.tensor([-8.0, 0.0, 8.0])).sum((1, 2)).diff().min()) > 200


def test_uniform_keeps_its_range():
    drawn = uniform(500, -2.0, 3.0, torch.Generator().manual_seed(0))
    assert -2 <= float(drawn.min()) < -1.8
    assert 2.8 < float(drawn.max()) <= 3
