"""Likeness of rows of numbers by their distance, in units of the usual distance. It knows numbers only.

Float32 rows are compared in float64. The kernels in C, `data/kernels/likeness.c`, widen them on the way and
take all exponentials at once: 64 rows against 1,000 landmarks of 337 numbers take .8 ms where torch, which
does the same where they do not work, takes 2.8.
"""

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lorascope.compiled import wide_kernel

__all__ = ["alike", "apart", "leading", "principal", "some_rows", "usual_distance"]

LEAST = 2**16  # numbers that are worth a compiler


def apart(
    x: Tensor, landmarks: Tensor, usual: Tensor
) -> Tensor:  # (b, F), (M, F), () -> (b, M) float64
    """|x - x'|^2 / usual.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> apart(x, x, torch.tensor(4.0)).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    # by a product, in float64: small distances survive, and it is faster than one by one in float32
    kernel = _kernel("apart", len(x) * landmarks.numel(), torch.float32, x, landmarks)
    if kernel is not None:
        far = x.new_empty(len(x), len(landmarks), dtype=torch.float64)
        dense = (x.contiguous(), landmarks.contiguous(), far)
        tensors = [ctypes.c_void_p(t.data_ptr()) for t in dense]
        numbers = map(ctypes.c_int64, (*far.shape, x.shape[1]))
        threads = ctypes.c_int64(torch.get_num_threads())
        if not kernel(*tensors, *numbers, ctypes.c_double(float(usual)), threads):
            raise MemoryError(f"Comparing {len(x)} LoRAs with {len(landmarks)}: no memory.")
        return far
    one, other = x.double(), landmarks.double()
    both = one.square().sum(1, keepdim=True) + other.square().sum(1)
    return both.addmm_(one, other.T, alpha=-2).clamp_(min=0).div_(usual)


def alike(far: Tensor, widths: Mapping[str, float]) -> dict[str, Tensor]:  # (b, M) -> (b, M) each
    """exp(-t far) for each t.

    Example:
        >>> alike(torch.tensor([0.0, 1.0]), {"wide": 1.0})["wide"].log().tolist()
        [0.0, -1.0]
    """
    kernel = _kernel("alike", far.numel() * len(widths), torch.float64, far)
    if kernel is None:
        return {name: (far * -t).exp_() for name, t in widths.items()}
    found, far = {name: torch.empty_like(far) for name in widths}, far.contiguous()
    count = len(widths)
    out = (ctypes.c_void_p * count)(*(kind.data_ptr() for kind in found.values()))
    numbers = map(ctypes.c_int64, (count, far.numel(), torch.get_num_threads()))
    kernel(
        ctypes.c_void_p(far.data_ptr()), out, (ctypes.c_double * count)(*widths.values()), *numbers
    )
    return found


def _kernel(name: str, numbers: int, dtype: torch.dtype, *tensors: Tensor) -> Any:
    """The function in C where it takes these tensors; it has no gradient."""
    plain = all(x.dtype == dtype and x.device.type == "cpu" for x in tensors)
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return wide_kernel("likeness", name) if plain and numbers >= LEAST and not learns else None


def usual_distance(x: Tensor) -> Tensor:
    """The median squared distance between some rows; 1 where all are alike.

    Example:
        >>> usual_distance(torch.tensor([[0.0], [2.0]])).item()
        4.0
    """
    far = torch.pdist(x[:1000]).square()
    far = far[far > 0]
    return far.median() if far.numel() else torch.ones(())


def leading(x: Tensor, most: int) -> Tensor:  # (b, a) -> (b, at most `most`)
    """The columns themselves, or their leading principal components where they are too many.

    Example:
        >>> leading(torch.ones(5, 3), 2).shape
        torch.Size([5, 2])
    """
    if x.shape[1] <= most:
        return x
    return (x - x.mean(0)) @ principal(x, most)


def principal(x: Tensor, most: int) -> Tensor:  # (b, a) -> (a, at most `most`)
    """The leading principal directions of the rows.

    Example:
        >>> principal(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 1).abs().tolist()
        [[1.0], [0.0]]
    """
    centred = x - x.mean(0)
    _, turn = torch.linalg.eigh(centred.T @ centred)
    return turn[:, -most:].contiguous()


def some_rows(x: Tensor, most: int) -> Tensor:  # (b, ...) -> (at most `most`,) int64, ascending
    """An arbitrary choice of rows that depends on their number alone: the landmarks.

    Example:
        >>> some_rows(torch.zeros(3, 2), 5).tolist()
        [0, 1, 2]
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return order[:most].sort().values.to(x.device)
