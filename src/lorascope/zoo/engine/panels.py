"""Tensors as the kernels in C read them: frozen weights in panels, the factors of adapters without gaps."""

import ctypes

import torch
from torch import Tensor

from lorascope.compiled import address

__all__ = ["LANES", "in_panels", "whole"]

LANES = 8  # what the kernels make at once at least: widths are multiples of it


def in_panels(weight: Tensor, library: ctypes.CDLL) -> Tensor:
    """(inputs, outputs) with the outputs that a tile of the kernels has side by side, tile after tile.

    Args:
        weight: (inputs, outputs), outputs a multiple of `LANES`.
        library: kernels that include `layers.h`; how wide a tile is depends on the processor.
    """
    weight = weight.float().contiguous()
    to = torch.empty_like(weight)
    library.pack(address(weight), address(to), *map(ctypes.c_int64, weight.shape))
    return to


def whole(factor: Tensor) -> Tensor:
    """The factors of all slots (s, ., .), each without gaps; slots may lie apart."""
    return factor if factor[0].is_contiguous() else factor.contiguous()
