"""Views of layers from what was read of their factors: products and squares along directions, at unit norm.

    x = u^T p, y = v^T q;  r_u, r_v the roots of u^T u and v^T v;  d = r_u r_v^T, |dW| = |d|

    core = x^T y / |d|,   left = (r_v x)^T (r_v x) / |d d^T|,   right = (r_u y)^T (r_u y) / |d d^T|

each divided by the root of the number of layers that are there. What they mean stands in `cores.py`. The kernel
in C, `data/kernels/views.c`, makes all three of a layer at once, in their places; where it does not work, torch
makes them one after another.
"""

import ctypes
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.compiled import wide_kernel
from lorascope.layers.matmul import batched_matmul
from lorascope.symmetry.roots import Roots

__all__ = ["Side", "Views", "make_views"]

BLOCK_NUMBERS = 2**19
"""Of cores made at once by torch on a CPU: they stay in the cache until they are in place."""
HIGHEST_RANK, WIDEST = 16, 48  # of the kernel
LEAST = 2**16  # numbers along directions that are worth a compiler

Side = tuple[Tensor, Tensor]
"""x (l, b, r, c) and y (l, b, r, d) of a shape group."""


class Views(NamedTuple):
    """What is seen of b LoRAs, each row of norm at most 1 over the layers that are there."""

    core: Tensor  # (b, sum of c c')
    left: Tensor  # (b, sum of c (c + 1) / 2)
    right: Tensor  # (b, sum of c' (c' + 1) / 2)


class Weights(NamedTuple):
    """What makes products to views of norm 1, by layer and LoRA, (l, b) float64; 0 where there is no update."""

    inverse: Tensor  # 1 / |dW|, divided by the root of the number of layers there
    root: Tensor  # of 1 / |dW dW^T|, divided likewise


@torch.no_grad()
def make_views(roots: Roots, sides: Sequence[Side]) -> Views:
    """The views of LoRAs whose factors were read, in the type of the sides; shape groups one after another."""
    weights = _weigh(roots, sides[0][0].dtype)
    numbers = sum(x.numel() + y.numel() for x, y in sides)
    if numbers >= LEAST and all(map(_suits, sides)):
        kernel = wide_kernel("views")
        if kernel is not None:
            return _by_kernel(kernel, roots, sides, weights)
    return _by_torch(roots, sides, weights)


def _weigh(roots: Roots, dtype: torch.dtype) -> Weights:
    square = roots.values.square()
    rank, norm = square.shape[-1], square.sum(-1)
    # an update that cancels up to rounding is zero: nothing of its directions is known
    noise = (8 * torch.finfo(dtype).eps * rank) ** 2
    real = norm > noise * roots.u.square().sum((-1, -2)) * roots.v.square().sum((-1, -2))
    share = real.sum(0).clamp(min=1).rsqrt()  # of the whole norm, for each layer that is there
    inverse = torch.where(real, norm.rsqrt(), 0.0) * share
    root = (torch.where(real, square.square().sum(-1).rsqrt(), 0.0) * share).sqrt()
    return Weights(inverse, root)


# --- in C ---------------------------------------------------------------------------------------


def _suits(side: Side) -> bool:
    """Whether the kernel takes these."""
    plain = all(z.dtype == torch.float32 and z.device.type == "cpu" for z in side)
    return plain and side[0].shape[2] <= HIGHEST_RANK and max(z.shape[3] for z in side) <= WIDEST


def _by_kernel(kernel: Any, roots: Roots, sides: Sequence[Side], weights: Weights) -> Views:
    widths = [(x.shape[3], y.shape[3]) for x, y in sides for _ in range(len(x))]
    size = sides[0][0].shape[1]
    views = Views(
        *(
            sides[0][0].new_empty(size, sum(counts))
            for counts in zip(*(_counts(c, d) for c, d in widths), strict=True)
        )
    )
    known = [z.contiguous() for z in (roots.u, roots.v, *weights)]
    wide, places, start = [view.shape[1] for view in views], [0, 0, 0], 0
    for x, y in sides:
        layers, _, rank, c = x.shape
        parts = [z[start : start + layers] for z in known]
        into = [view[:, place:] for view, place in zip(views, places, strict=True)]
        tensors = (x.contiguous(), y.contiguous(), *parts, *into)
        numbers = (layers, size, rank, c, y.shape[3], *wide, torch.get_num_threads())
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
        kernel(*pointers, *map(ctypes.c_int64, numbers))
        counts = _counts(c, y.shape[3])
        places = [place + layers * n for place, n in zip(places, counts, strict=True)]
        start += layers
    return views


def _counts(c: int, d: int) -> tuple[int, int, int]:
    """How many numbers of each view a layer has."""
    return c * d, c * (c + 1) // 2, d * (d + 1) // 2


# --- by torch -----------------------------------------------------------------------------------


def _by_torch(roots: Roots, sides: Sequence[Side], weights: Weights) -> Views:
    """Neighbouring groups of the same c and d at once."""
    dtype = sides[0][0].dtype
    inverse = weights.inverse[..., None, None].to(dtype)
    turns = [(r * weights.root[..., None, None]).to(dtype) for r in (roots.v, roots.u)]
    views, start = [], 0
    for _, alike in groupby(sides, lambda side: (side[0].shape[3], side[1].shape[3])):
        x, y = (torch.cat(column) for column in zip(*alike, strict=True))
        places = slice(start, start + len(x))
        left, right = (_turn(a[places], z) for a, z in zip(turns, (x, y), strict=True))
        views.append(_write(x * inverse[places], y, left, right))
        start += len(x)
    if len(views) == 1:
        return views[0]
    return Views(*(torch.cat(column, 1) for column in zip(*views, strict=True)))


def _turn(a: Tensor, x: Tensor) -> Tensor:  # (l, b, r, r), (l, b, r, c) -> (l, b, r, c)
    # torch.matmul and torch.bmm take four times as long for matrices this small
    return batched_matmul(a.flatten(0, 1), x.flatten(0, 1)).view(x.shape)


def _write(*parts: Tensor) -> Views:  # (l, b, r, c), (l, b, r, d), and as these
    """Products of the first two and squares of the others, written block by block of LoRAs."""
    x, y, left, right = (z.transpose(0, 1).contiguous() for z in parts)
    size, layers, _, c = x.shape
    core = x.new_empty(size, layers, c, y.shape[3])
    squares = [(z, _Triangle(z.shape[3], z)) for z in (left, right)]
    halves = [x.new_empty(size, layers, triangle.width) for _, triangle in squares]
    step = max(1, BLOCK_NUMBERS // core[:1].numel()) if x.device.type == "cpu" else max(1, size)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        torch.bmm(x[rows].flatten(0, 1).mT, y[rows].flatten(0, 1), out=core[rows].flatten(0, 1))
        for half, (z, triangle) in zip(halves, squares, strict=True):
            triangle.write(z[rows].flatten(0, 1), half[rows].flatten(0, 1))
    return Views(core.flatten(1), halves[0].flatten(1), halves[1].flatten(1))


class _Triangle:
    """The upper triangle of z^T z, scaled so that inner products stay those of the whole matrix."""

    def __init__(self, c: int, like: Tensor) -> None:
        i, j = torch.triu_indices(c, c, device=like.device)
        self.places = i * c + j
        self.scale = torch.where(i == j, 1.0, 2.0**0.5).to(like.dtype)
        self.width = len(i)

    def write(self, z: Tensor, out: Tensor) -> None:  # (k, r, c), (k, c (c + 1) / 2)
        torch.index_select((z.mT @ z).flatten(1), 1, self.places, out=out)
        out.mul_(self.scale)
