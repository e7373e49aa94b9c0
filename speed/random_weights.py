"""Networks made where they are used: on their device and in their type from the start."""

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["made_in"]


@contextlib.contextmanager
def made_in(device: str, dtype: torch.dtype) -> Iterator[None]:
    """New parameters are on this device and of this type: a model of 3 billion is never held in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
