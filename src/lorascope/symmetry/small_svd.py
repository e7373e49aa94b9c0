"""Singular values of many products u v^T of small square matrices in float64, all at once.

torch goes from matrix to matrix, on one thread: 4.3 ms for 3,584 of rank 4, by the eigenvalues of their
squares. The kernel in C, `data/kernels/small_svd.c`, turns the columns of eight products side by side; where it
does not work, torch does as before.
"""

import ctypes

import torch
from torch import Tensor

from lorascope.compiled import wide_kernel

__all__ = ["small_svd"]

HIGHEST_RANK = 8
LEAST = 512  # matrices that are worth a compiler


def small_svd(u: Tensor, v: Tensor) -> Tensor:  # (..., r, r) float64 twice -> (..., r)
    """Falling singular values of u v^T; by torch, those below 1e-8 of the largest are lost.

    Example:
        >>> u, v = torch.tensor([[[0.0, 2.0], [3.0, 0.0]]]).double(), torch.eye(2).double()[None]
        >>> small_svd(u, v).tolist()
        [[3.0, 2.0]]
    """
    count, rank = u.shape[:-2].numel(), u.shape[-1]
    if u.device.type == "cpu" and 0 < rank <= HIGHEST_RANK and count >= LEAST:
        kernel = wide_kernel("small_svd")
        if kernel is not None:
            found = u.new_empty(u.shape[:-1])
            tensors = (u.contiguous(), v.contiguous(), found)
            numbers = map(ctypes.c_int64, (rank, count, torch.get_num_threads()))
            kernel(*(ctypes.c_void_p(t.data_ptr()) for t in tensors), *numbers)
            return found
    joined = u @ v.mT
    square: Tensor = torch.linalg.eigvalsh(joined.mT @ joined)
    return square.clamp(min=0).sqrt().flip(-1)
