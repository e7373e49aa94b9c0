"""Soft shapes on a batch of small canvases: the pencil of the drawings, without any subject.

A shape is a mask (b, h, w) in [0, 1]: the sigmoid of the signed distance to its edge in pixels, so
that edges are anti-aliased and parameters are continuous. Painting mixes a colour in by the mask.

    image <- image * (1 - mask) + colour * mask

Numbers that differ from picture to picture are tensors (b,); all are drawn at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["SIZE", "Canvas", "Number", "uniform"]

SIZE = 32  # pixels, height and width
EDGE = 0.35  # pixels over which an edge fades
Number = float | Tensor  # one for all pictures, (b,), or (b, h, w)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Numbers from [low, high]: (count,)."""
    return low + (high - low) * torch.rand(count, generator=generator)


class Canvas:
    """A batch of pictures with a local frame each: moved, turned and scaled together.

    Coordinates of shapes are pixels in the local frame, whose origin `center` is on the canvas.
    """

    def __init__(
        self, center_x: Tensor, center_y: Tensor, scale: Tensor, turn: Tensor, background: Tensor
    ) -> None:
        pixels = torch.arange(SIZE) + 0.5
        dx = (pixels[None, None, :] - _wide(center_x)) / _wide(scale)  # (b, 1, w)
        dy = (pixels[None, :, None] - _wide(center_y)) / _wide(scale)  # (b, h, 1)
        cos, sin = _wide(turn.cos()), _wide(turn.sin())
        self.x = dx * cos + dy * sin  # (b, h, w)
        self.y = dy * cos - dx * sin
        self.image = background  # (b, 3, h, w)

    def ellipse(self, x: Number, y: Number, rx: Number, ry: Number, power: float = 2.0) -> Tensor:
        """A filled (super)ellipse: (b, h, w)."""
        dx = ((self.x - _wide(x)).abs() / _wide(rx)).pow(power)
        dy = ((self.y - _wide(y)).abs() / _wide(ry)).pow(power)
        radius = (dx + dy + 1e-6).pow(1 / power)
        smaller = torch.minimum(torch.as_tensor(rx), torch.as_tensor(ry))
        return _soft((1 - radius) * _wide(smaller))

    def ring(self, x: Number, y: Number, radius: Number, thickness: float) -> Tensor:
        """A circle's line: (b, h, w)."""
        distance = ((self.x - _wide(x)).square() + (self.y - _wide(y)).square() + 1e-6).sqrt()
        return _soft(thickness / 2 - (distance - _wide(radius)).abs())

    def line(self, x0: Number, y0: Number, x1: Number, y1: Number, thickness: Number) -> Tensor:
        """A line with round ends: (b, h, w)."""
        ax, ay = self.x - _wide(x0), self.y - _wide(y0)
        bx, by = _wide(x1) - _wide(x0), _wide(y1) - _wide(y0)
        along = ((ax * bx + ay * by) / (bx * bx + by * by + 1e-6)).clamp(0, 1)
        distance = ((ax - along * bx).square() + (ay - along * by).square() + 1e-6).sqrt()
        return _soft(_wide(thickness) / 2 - distance)

    def polygon(self, points: Sequence[tuple[Number, Number]]) -> Tensor:
        """A filled convex polygon, its corners clockwise on the screen: (b, h, w)."""
        inside = None
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            ex, ey = _wide(x1) - _wide(x0), _wide(y1) - _wide(y0)
            cross = ex * (self.y - _wide(y0)) - ey * (self.x - _wide(x0))
            distance = cross / (ex * ex + ey * ey + 1e-6).sqrt()
            inside = distance if inside is None else torch.minimum(inside, distance)
        assert inside is not None
        return _soft(inside)

    def box(self, left: Number, top: Number, right: Number, bottom: Number) -> Tensor:
        """A filled rectangle: (b, h, w)."""
        return self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)])

    def above(self, y: Number) -> Tensor:
        """Everything above a height: (b, h, w)."""
        return _soft(_wide(y) - self.y)

    def paint(self, mask: Tensor, colour: Tensor, where: Tensor | None = None) -> None:
        """Mix a colour (3,) or (b, 3) in by a mask (b, h, w), in the pictures where (b,) is set."""
        if where is not None:
            mask = mask * _wide(where.to(mask.dtype))
        shade = colour.reshape(-1, 3, 1, 1)
        self.image = self.image + mask[:, None] * (shade - self.image)


def _wide(value: Number) -> Tensor:
    value = torch.as_tensor(value)
    return value if value.ndim == 3 else value.reshape(-1, 1, 1)


def _soft(distance: Tensor) -> Tensor:
    return torch.sigmoid(distance / EDGE)
