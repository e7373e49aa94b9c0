"""Frozen weights as the kernels in C read them: in panels of the columns that are made at once."""

import ctypes

import torch
from torch import Tensor

from lorascope.compiled import address

__all__ = ["in_panels"]


def in_panels(weight: Tensor, library: ctypes.CDLL) -> Tensor:
    """(inputs, outputs) with the outputs that a tile of the kernels has side by side, tile after tile.

    Args:
        weight: (inputs, outputs), outputs a multiple of 8.
        library: kernels that include `layers.h`; how wide a tile is depends on the processor.
    """
    weight = weight.float().contiguous()
    to = torch.empty_like(weight)
    library.pack(address(weight), address(to), *map(ctypes.c_int64, weight.shape))
    return to
