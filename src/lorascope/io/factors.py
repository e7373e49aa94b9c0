"""What every reader does to a tensor on its way to a factor: its type, the scale, and the cap on ranks."""

import torch
from torch import Tensor

from lorascope.core.low_rank import FLOATS
from lorascope.errors import FormatError, HostileFileError

__all__ = ["MAX_RANK", "as_float", "check_rank", "fold", "widen"]

MAX_RANK = 8192
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


def widen(tensor: Tensor) -> Tensor:
    """8-bit floats as fp32, which is exact and which torch can calculate with; others as they are."""
    return tensor.float() if tensor.dtype in EIGHT_BITS else tensor


def as_float(tensor: Tensor, name: str, where: str) -> Tensor:
    """The tensor in a type that factors may have. Raises FormatError for whole numbers."""
    tensor = widen(tensor)
    if tensor.dtype in FLOATS:
        return tensor
    raise FormatError(
        f"Reading {name!r} of {where!r}: its type is {tensor.dtype}, expected a floating type. "
        "Quantised factors are not read."
    )


def fold(factor: Tensor, scale: float) -> Tensor:
    """A factor times the scale; half precision becomes fp32 unless the scale is 1."""
    if scale == 1.0:
        return factor
    factor = widen(factor)
    wide = factor.to(torch.promote_types(factor.dtype, torch.float32))
    return wide * scale if wide is factor else wide.mul_(scale)  # a fresh copy is ours to write to


def check_rank(layer: str, rank: int, where: str) -> None:
    """Raises HostileFileError above the cap on ranks."""
    if rank > MAX_RANK:
        raise HostileFileError(
            f"Reading layer {layer!r} of {where!r}: its rank is {rank}, expected at most {MAX_RANK}."
        )
