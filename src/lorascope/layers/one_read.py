"""One read of factors: their products with directions and their Gram matrices, while they are in the cache.

    x: (l, b, r, n), p: (l, n, c)  ->  x p: (l, b, r, c),  x x^T: (l, b, r, r)

Reading many LoRAs from memory takes longer than their Gram matrices, and torch has no product that makes both:
two of its products take 2.5 times a sum over the factors, one read 1.5 times (64 LoRAs of Llama-3.2-3B's q and
v, 294 MB in float32, 16 directions, an Intel core with AVX-512). The kernel in C, `data/kernels/one_read.c`, is
for many float32 factors of low rank on such a processor; all else, and where no C compiler works, is torch's.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.compiled import wide_kernel
from lorascope.layers.matmul import batched_matmul, bfloat16_is_fast
from lorascope.symmetry.roots import gram

__all__ = ["Read", "one_read"]

LEAST_NUMBERS = 2**22  # of all factors: fewer are read from the cache, or not worth a compiler
HIGHEST_RANK = 16


class Read(NamedTuple):
    """What one read of some stacked factors tells."""

    product: Tensor  # (l, b, r, c), in the type of the directions
    gram: Tensor  # (l, b, r, r), in at least float32


@torch.no_grad()
def one_read(
    factors: Sequence[Tensor],  # (l, b, r, n) each
    directions: Sequence[Tensor],  # (l, n, c) each
) -> list[Read]:
    """Products and Gram matrices of some stacked factors. No gradient goes through them.

    Factors in bfloat16 meet directions rounded to it where the machine is fast in it: their products carry its
    8 bits, the Gram matrices more.

    Example:
        >>> found = one_read([torch.ones(1, 1, 1, 3)], [torch.ones(1, 3, 2)])
        >>> found[0].product.tolist(), found[0].gram.tolist()
        ([[[[3.0, 3.0]]]], [[[[3.0]]]])
    """
    pairs = list(zip(factors, directions, strict=True))
    if sum(x.numel() for x in factors) < LEAST_NUMBERS or not all(_suits(*pair) for pair in pairs):
        return [_by_torch(*pair) for pair in pairs]
    kernel = wide_kernel("one_read")
    return [_by_torch(*pair) if kernel is None else _by_kernel(kernel, *pair) for pair in pairs]


def _by_torch(x: Tensor, p: Tensor) -> Read:
    narrow = x.dtype == torch.bfloat16 and p.dtype == torch.float32 and bfloat16_is_fast(x.device)
    dtype = x.dtype if narrow else p.dtype
    product = batched_matmul(x.to(dtype).flatten(1, 2), p.to(dtype)).to(p.dtype)
    return Read(product.view(*x.shape[:3], -1), gram(x).view(*x.shape[:3], -1))


def _suits(x: Tensor, p: Tensor) -> bool:
    """Whether the kernel takes these."""
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, p))
    dense = p.is_contiguous() and x[:1].is_contiguous()
    return plain and dense and 0 < x.shape[2] <= HIGHEST_RANK


def _by_kernel(kernel: Any, x: Tensor, p: Tensor) -> Read:
    read = Read(*(x.new_empty(*x.shape[:3], last) for last in (p.shape[2], x.shape[2])))
    tensors = [ctypes.c_void_p(t.data_ptr()) for t in (x, p, *read)]
    numbers = (*x.shape, p.shape[2], x.stride(0), torch.get_num_threads())
    if not kernel(*tensors, *map(ctypes.c_int64, numbers)):
        raise MemoryError(
            f"Reading factors of {len(x)} layers: no memory for one layer's directions."
        )
    return read
