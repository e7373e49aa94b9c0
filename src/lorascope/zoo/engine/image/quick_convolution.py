"""Frozen convolutions as the kernels in C read them, and one alone.

    y = W x + c,   W (d, c, k, k)

A 3 x 3 convolution is made by Winograd's F(4 x 4, 3 x 3) (`data/kernels/winograd.h`), with a quarter of the
products, of pictures of a few places and more. What a kernel reads of a weight is made when first asked for.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorascope.zoo.engine.image.quick import run
from lorascope.zoo.engine.panels import LANES

__all__ = ["LARGEST", "Frozen", "convolution", "fits", "run_block"]

run_block = functools.partial(run, source="blocks")

LARGEST = 1 << 17  # numbers of a picture that still lie in the cache with what is made of them
POINTS = 36  # of a tile, which makes 4 x 4 places
LEAST = 8  # places of a tile that are of the picture, on average: of 4 are 9 taps as many products
MOST = 1 << 20  # numbers of a weight at the points: more would fill memory and caches


@dataclass(frozen=True, eq=False)
class Frozen:
    """The weight of a convolution."""

    weight: Tensor  # (d, c, k, k)

    @functools.cached_property
    def taps(self) -> Tensor:  # (k k, c, d)
        """Tap by tap."""
        return self.weight.detach().float().permute(2, 3, 1, 0).flatten(0, 1).contiguous()

    @functools.cached_property
    def points(self) -> Tensor:  # (36, c, d), columns in panels
        """Point by point."""
        return _at_points(self.taps)

    @functools.cached_property
    def back(self) -> Tensor:  # (36, d, c), columns in panels
        """The same of the convolution that takes gradients back."""
        return _at_points(self.taps.flip(0).mT.contiguous())

    def tiled(self, height: int, width: int) -> bool:
        """Whether a 3 x 3 convolution of pictures of this size is made tile by tile."""
        tiles = math.ceil(height / 4) * math.ceil(width / 4)
        small = POINTS * self.weight.shape[:2].numel() <= MOST
        return small and height * width >= LEAST * tiles

    def alone(self, x: Tensor, stride: int, padding: int, times: int) -> bool:
        """Whether `convolution` takes it, of pictures (n, c, h, w) whose places are seen so often."""
        height, width = (times * side for side in x.shape[-2:])
        return (
            (*self.weight.shape[2:], stride, padding) == (3, 3, 1, 1)
            and all(channels % LANES == 0 for channels in self.weight.shape[:2])
            and fits(x, times * times * max(self.weight.shape[:2]))
            and self.tiled(height, width)
        )


def fits(x: Tensor, channels: int) -> bool:
    """Whether pictures (n, c, h, w) are so small that the kernels gain on them."""
    return x.dtype == torch.float32 and x.shape[-2:].numel() * channels <= LARGEST


def convolution(
    x: Tensor,  # (n, c, h, w)
    frozen: Frozen,
    bias: Tensor | None,
    times: int = 1,
) -> Tensor:  # (n, d, times h, times w)
    """A 3 x 3 convolution of pictures, whose places are seen `times` x `times` times before it.

    The weights get no gradient.
    """
    found: Tensor = Convolution.apply(x, frozen, bias, times)  # type: ignore[no-untyped-call]
    return found


class Convolution(torch.autograd.Function):
    """A convolution, tile by tile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen, bias: Tensor | None, times: int) -> Tensor:
        """Of every picture."""
        x = x.contiguous(memory_format=torch.channels_last)
        (n, c, h, w), d = x.shape, len(frozen.weight)
        y = torch.empty((n, d, times * h, times * w), memory_format=torch.channels_last)
        first = torch.zeros(d) if bias is None else bias.float().contiguous()
        run_block("convolution", x, y, frozen.points, first, n, *y.shape[2:], times, c, d)
        ctx.facts = (frozen, times, x.shape)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the pictures."""
        frozen, times, (n, c, h, w) = ctx.facts
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        gx = torch.empty((n, c, h, w), memory_format=torch.channels_last)
        sizes = (n, *gradient.shape[2:], times, c, len(frozen.weight))
        run_block("convolution_backward", gradient, gx, frozen.back, *sizes)
        return gx, None, None, None


def _at_points(taps: Tensor) -> Tensor:
    points = taps.new_empty(POINTS, *taps.shape[1:])
    run_block("at_points", taps, points, *taps.shape[1:])
    return points
