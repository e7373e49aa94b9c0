"""Grids: every picture in its place, white between."""

import torch
from matplotlib.image import imread

from lorascope.zoo.bases.faces.show import grid, write_png


def test_pictures_stand_row_by_row():
    shades = torch.linspace(-1, 0.5, 5)[:, None, None, None].expand(5, 3, 4, 4)
    whole = grid(shades, 3, zoom=1)
    assert whole.shape == (12, 18, 3)
    assert whole[0, 0, 0] == 0
    assert [int(whole[6, x, 0]) for x in (0, 6, 12)] == [
        int((s + 1) * 127.5) for s in (0.125, 0.5)
    ] + [255]
    assert int(whole[4:6].min()) == int(whole[:, 4:6].min()) == 255


def test_a_png_holds_the_grid(tmp_path):
    pictures = torch.rand(4, 3, 8, 8) * 2 - 1
    write_png(tmp_path / "grid.png", pictures, 2, zoom=3)
    read = torch.tensor(imread(tmp_path / "grid.png"))[..., :3]
    assert torch.equal((read * 255).round().byte(), grid(pictures, 2, zoom=3))
