"""Pictures side by side in one PNG: samples of the base, drawings, finetuned beside base."""

import io
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from lorascope.io.shard_writer import write_bytes

__all__ = ["grid", "write_png"]

GAP = 2  # pixels of white between pictures


def grid(pictures: Tensor, columns: int, zoom: int = 2) -> Tensor:
    """Pictures (p, 3, h, w) in [-1, 1], row by row on white: (height, width, 3) uint8."""
    missing = -len(pictures) % columns
    blank = torch.ones(missing, *pictures.shape[1:])
    tiles = pad(torch.cat((pictures, blank)), (0, GAP, 0, GAP), value=1.0)
    rows = tiles.reshape(-1, columns, *tiles.shape[1:])  # (rows, columns, 3, h, w)
    whole = rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    large = whole.repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
    return ((large.clamp(-1, 1) + 1) * 127.5).round().byte()


def write_png(path: Path, pictures: Tensor, columns: int, zoom: int = 2) -> None:
    """Write a grid of pictures as a PNG. Raises FileError where it cannot be written."""
    from matplotlib.image import imsave

    drawn = io.BytesIO()
    imsave(drawn, grid(pictures, columns, zoom).numpy(), format="png")
    write_bytes(path, drawn.getvalue())
