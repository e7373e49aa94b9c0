"""Objects: ten clearly different classes, each picture with its own colour, place, size and turn."""

from collections.abc import Callable

import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.zoo.drawings.canvas import SIZE, Canvas, uniform

__all__ = ["CLASSES", "COLOURS", "draw_objects"]

COLOURS = {
    "red": (0.86, 0.12, 0.14),
    "green": (0.16, 0.66, 0.24),
    "blue": (0.14, 0.30, 0.88),
    "yellow": (0.96, 0.84, 0.14),
    "purple": (0.58, 0.20, 0.72),
    "orange": (0.97, 0.52, 0.10),
}
DARK, PALE, BROWN = (0.10, 0.10, 0.12), (0.96, 0.96, 0.92), (0.42, 0.26, 0.12)
Drawer = Callable[[Canvas, Tensor, Tensor], None]  # canvas, colour (b, 3), a free shape in [0, 1]


def draw_objects(classes: Tensor, colours: Tensor, generator: torch.Generator) -> Tensor:
    """Objects of given classes (b,) and colours (b,), both indices: (b, 3, 32, 32) in [0, 1].

    Place, size, turn, proportions, background and light come from the generator.

    Raises:
        DataError: an index is outside its table.
    """
    for indices, table in ((classes, CLASSES), (colours, COLOURS)):
        if bool(((indices < 0) | (indices >= len(table))).any()):
            raise DataError(
                f"drawing objects: found an index outside 0..{len(table) - 1} of "
                f"{', '.join(table)}. Try torch.randint({len(table)}, (count,))"
            )
    count = classes.shape[0]
    frame = (
        16 + uniform(count, -2.0, 2.0, generator),
        16 + uniform(count, -2.0, 2.0, generator),
        uniform(count, 0.80, 1.15, generator),
        uniform(count, -0.30, 0.30, generator),
        _background(count, generator),
    )
    palette = torch.tensor(list(COLOURS.values()))
    colour = (palette[colours] + 0.06 * torch.randn(count, 3, generator=generator)).clamp(0, 1)
    shape = torch.rand(count, generator=generator)
    gain = uniform(count, 0.85, 1.08, generator)[:, None, None, None]
    image = torch.empty(count, 3, SIZE, SIZE)
    for index, draw in enumerate(CLASSES.values()):
        rows = (classes == index).nonzero()[:, 0]
        if len(rows):
            canvas = Canvas(*(part[rows] for part in frame))
            draw(canvas, colour[rows], shape[rows])
            image[rows] = canvas.image
    return (image * gain).clamp(0, 1)


def _background(count: int, generator: torch.Generator) -> Tensor:
    left, right = (0.35 + 0.6 * torch.rand(count, 3, 1, 1, generator=generator) for _ in range(2))
    across = torch.linspace(0, 1, SIZE)[None, None, None, :]
    return (left * (1 - across) + right * across).expand(count, 3, SIZE, SIZE)


def _ball(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    disc = canvas.ellipse(0, 0, 9.0, 9.0)
    canvas.paint(disc, colour)
    canvas.paint(disc * canvas.line(-10, 0, 10, 0, 2.0 + 2 * shape), torch.tensor(PALE))
    canvas.paint(disc * canvas.ring(0, 0, 8.5, 1.2), torch.tensor(DARK))
    canvas.paint(canvas.ellipse(-3.5, -4.5, 1.6, 1.2), torch.tensor(PALE))


def _house(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    width = 6.5 + 2 * shape
    canvas.paint(canvas.box(-width, -1, width, 10), torch.tensor(PALE))
    canvas.paint(canvas.polygon([(0, -11), (width + 2.5, -1), (-width - 2.5, -1)]), colour)
    canvas.paint(canvas.box(-1.8, 4, 1.8, 10), torch.tensor(BROWN))
    for side in (-1, 1):
        canvas.paint(canvas.box(side * 4.6 - 1.3, 1, side * 4.6 + 1.3, 4), torch.tensor(DARK))


def _tree(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    canvas.paint(canvas.box(-1.6, 1, 1.6, 12), torch.tensor(BROWN))
    for x, y in ((-4.5, -1.0), (4.5, -1.0), (0.0, -6.0), (0.0, -1.5)):
        canvas.paint(canvas.ellipse(x, y, 4.2 + 1.6 * shape, 4.6), colour)


def _fish(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    canvas.paint(canvas.polygon([(5, 0), (12, -6), (12, 6)]), 0.75 * colour)
    canvas.paint(canvas.polygon([(-2, -7.5), (4, -3), (-4, -3)]), 0.75 * colour)
    canvas.paint(canvas.ellipse(-2, 0, 9.0, 4.0 + 2 * shape), colour)
    canvas.paint(canvas.ellipse(-7, -1, 1.7, 1.7), torch.tensor(PALE))
    canvas.paint(canvas.ellipse(-7, -1, 0.8, 0.8), torch.tensor(DARK))


def _star(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    angle = torch.atan2(canvas.x, -canvas.y)
    radius = (canvas.x.square() + canvas.y.square() + 1e-6).sqrt()
    step = 2 * torch.pi / 5
    folded = ((angle + 10 * torch.pi) % step - step / 2).abs() - step / 2  # 0 at a point
    inner = (0.38 + 0.14 * shape)[:, None, None]
    # In polar form the edge between a point (radius 1) and the next notch (radius `inner`).
    turn = torch.tensor(step / 2)
    edge = inner * turn.sin() / (inner * (turn + folded).sin() + folded.abs().sin())
    canvas.paint(torch.sigmoid((11.5 * edge - radius) * 1.6), colour)


def _cup(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    canvas.paint(canvas.ring(7, 1, 3.8, 2.0), 0.8 * colour)
    foot = 4.0 + 1.5 * shape
    canvas.paint(canvas.polygon([(-7, -6), (7, -6), (foot, 9), (-foot, 9)]), colour)
    canvas.paint(canvas.ellipse(0, -6, 7.0, 2.0), torch.tensor(PALE))
    canvas.paint(canvas.ellipse(0, -5.8, 5.4, 1.2), torch.tensor(BROWN))


def _car(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    cabin = 3.0 + 2 * shape
    canvas.paint(
        canvas.polygon([(-cabin - 1, -6), (cabin + 1, -6), (cabin + 4, 0), (-cabin - 4, 0)]), colour
    )
    canvas.paint(
        canvas.polygon([(-cabin, -4.6), (cabin, -4.6), (cabin + 2, -0.6), (-cabin - 2, -0.6)]),
        torch.tensor([0.75, 0.90, 1.0]),
    )
    canvas.paint(canvas.ellipse(0, 2, 12.5, 3.6, 4.0), colour)
    for side in (-1, 1):
        canvas.paint(canvas.ellipse(side * 6.5, 5, 3.1, 3.1), torch.tensor(DARK))
        canvas.paint(canvas.ellipse(side * 6.5, 5, 1.2, 1.2), torch.tensor(PALE))


def _key(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    canvas.paint(canvas.ring(-7, 0, 3.8, 2.4), colour)
    canvas.paint(canvas.line(-3, 0, 11, 0, 2.2), colour)
    canvas.paint(canvas.line(9.8, 0, 9.8, 4 + 1.5 * shape, 2.0), colour)
    canvas.paint(canvas.line(5.6, 0, 5.6, 5.5 - 1.5 * shape, 2.0), colour)


def _boat(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    canvas.paint(canvas.box(-40, 7.5, 40, 40), torch.tensor([0.15, 0.45, 0.75]))
    canvas.paint(canvas.polygon([(-11, 3), (11, 3), (7, 9), (-7, 9)]), torch.tensor(BROWN))
    canvas.paint(canvas.line(0, -11, 0, 3, 1.2), torch.tensor(DARK))
    canvas.paint(canvas.polygon([(1.2, -11), (8 + 2 * shape, 1), (1.2, 1)]), colour)
    canvas.paint(canvas.polygon([(-1.2, -8), (-1.2, 1), (-7, 1)]), colour)


def _lamp(canvas: Canvas, colour: Tensor, shape: Tensor) -> None:
    canvas.paint(0.55 * canvas.ellipse(0, 0, 13.0, 9.0), torch.tensor([1.0, 0.96, 0.62]))
    canvas.paint(canvas.line(0, -2, 0, 10, 1.6), torch.tensor(DARK))
    canvas.paint(canvas.ellipse(0, 11, 5.5, 1.8), torch.tensor(DARK))
    top = 2.5 + 2 * shape
    canvas.paint(canvas.polygon([(-top, -11), (top, -11), (8, -1), (-8, -1)]), colour)


#: Class name -> what draws it, in the order of their indices.
CLASSES: dict[str, Drawer] = {
    "ball": _ball,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "star": _star,
    "cup": _cup,
    "car": _car,
    "key": _key,
    "boat": _boat,
    "lamp": _lamp,
}
