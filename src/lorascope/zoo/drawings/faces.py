"""Faces: twelve attributes by the names of CelebA, a continuous identity, and nuisance.

    picture = draw_faces(attributes, traits, nuisance seed)

Attributes are what a caption can say, traits what makes a face this person's, and nuisance (pose,
light, background, clothes) differs in every picture. No attribute hides another: bangs hang out
under a hat, hair shows beside it, ear rings lie over long hair, a mouth is drawn over a beard.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.zoo.drawings.canvas import SIZE, Canvas, uniform

__all__ = ["ATTRIBUTES", "TRAITS", "draw_faces"]

ATTRIBUTES = (
    "Male",
    "Young",
    "Smiling",
    "Eyeglasses",
    "Wearing_Hat",
    "Blond_Hair",
    "Bangs",
    "No_Beard",
    "Wearing_Lipstick",
    "Big_Lips",
    "Wearing_Earrings",
    "Big_Nose",
)
TRAITS = ("face_width", "skin_tone", "eye_height", "eye_spacing", "hair_tone")  # each in [-1, 1]

HEIGHT = 9.2  # of half a face, pixels
DARK, WHITE, GREY = (0.07, 0.06, 0.08), (0.97, 0.97, 0.97), (0.72, 0.76, 0.90)
GOLD, RED = (1.0, 0.80, 0.10), (0.88, 0.04, 0.16)


@dataclass(frozen=True, eq=False)
class Face:
    """Sizes and colours of a batch of faces, each (b,) or (b, 3)."""

    has: dict[str, Tensor]  # bool
    width: Tensor
    eye_y: Tensor
    eye_x: Tensor
    yaw: Tensor
    skin: Tensor
    shade: Tensor  # darker skin
    hair: Tensor
    lips: Tensor


def draw_faces(attributes: Tensor, traits: Tensor, generator: torch.Generator) -> Tensor:
    """Faces of given attributes (b, 12) bool and traits (b, 5) in [-1, 1]: (b, 3, 32, 32) in [0, 1].

    Pose, light, background and clothes come from the generator.

    Raises:
        DataError: attributes and traits do not have the shapes above.
    """
    count = attributes.shape[0]
    expected = (count, len(ATTRIBUTES)), (count, len(TRAITS))
    if (tuple(attributes.shape), tuple(traits.shape)) != expected:
        raise DataError(
            f"drawing faces: found attributes {tuple(attributes.shape)} and traits "
            f"{tuple(traits.shape)}, expected {expected[0]} and {expected[1]}. Try one row a face"
        )
    face = _face(attributes.bool(), traits, uniform(count, -0.9, 0.9, generator))
    canvas = Canvas(
        16 + uniform(count, -1.2, 1.2, generator),
        17.2 + uniform(count, -0.8, 0.8, generator),
        uniform(count, 0.94, 1.05, generator),
        uniform(count, -0.12, 0.12, generator),
        _background(count, generator),
    )
    _behind(canvas, face, _colours(count, generator))
    _head(canvas, face)
    _features(canvas, face)
    _mouth(canvas, face)
    _worn(canvas, face, _colours(count, generator))
    return _lit(canvas.image, generator)


def _face(attributes: Tensor, traits: Tensor, yaw: Tensor) -> Face:
    has = dict(zip(ATTRIBUTES, attributes.unbind(1), strict=True))
    width, tone, eye_y, eye_x, hair_tone = traits.unbind(1)
    skin = _mix((0.99, 0.85, 0.72), (0.56, 0.38, 0.26), (tone + 1) / 2)
    hair = _mix((0.05, 0.04, 0.06), (0.42, 0.16, 0.05), (hair_tone + 1) / 2)
    hair = torch.where(has["Blond_Hair"][:, None], torch.tensor([0.96, 0.80, 0.30]), hair)
    old = (~has["Young"])[:, None]
    hair = torch.where(old, 0.3 * hair + 0.7 * torch.tensor(GREY), hair)
    natural = 0.62 * skin + torch.tensor([0.16, -0.05, -0.02])
    lips = torch.where(has["Wearing_Lipstick"][:, None], torch.tensor(RED), natural)
    return Face(
        has=has,
        width=7.3 + 1.3 * width,
        eye_y=-0.9 + 1.1 * eye_y,
        eye_x=3.3 + 0.7 * eye_x,
        yaw=yaw,
        skin=skin,
        shade=0.72 * skin,
        hair=hair,
        lips=lips.clamp(0, 1),
    )


def _behind(canvas: Canvas, face: Face, clothes: Tensor) -> None:
    """Long hair, clothes, neck, ears."""
    woman = ~face.has["Male"]
    canvas.paint(canvas.ellipse(0, 2.2, face.width + 2.6, 12.5, 3.0), face.hair, woman)
    canvas.paint(canvas.ellipse(0, 18.5, 12.0, 7.0, 2.5), clothes)
    canvas.paint(canvas.box(-2.6, 6, 2.6, 12.5), face.shade)
    for side in (-1, 1):
        ear = canvas.ellipse(side * (face.width + 0.5), 0.6, 1.5, 2.1)
        canvas.paint(ear, 0.88 * face.skin, face.has["Male"])


def _head(canvas: Canvas, face: Face) -> None:
    """The head, its hair and beard."""
    has, width = face.has, face.width
    male = has["Male"]
    round_, square = canvas.ellipse(0, 0, width, HEIGHT), canvas.ellipse(0, 0, width, HEIGHT, 2.8)
    head = torch.where(male[:, None, None], square, round_)
    canvas.paint(head, face.skin)
    outer = canvas.ellipse(0, -0.9, width + 1.2, HEIGHT + 1.0, 2.2)
    canvas.paint(outer * canvas.above(-6.4), face.hair)
    for side in (-1, 1):  # hair beside the temples, seen under a hat too
        canvas.paint(canvas.ellipse(side * (width + 0.2), -4.0, 1.5, 3.6), face.hair)
    beard = head * (1 - canvas.above(3.3 - 0.06 * canvas.x.square()))
    canvas.paint(beard, 0.8 * face.hair, ~has["No_Beard"])
    fringe = outer * canvas.above(face.eye_y[:, None, None] - 2.0 + 0.35 * (canvas.x * 1.6).sin())
    canvas.paint(fringe, 0.8 * face.hair, has["Bangs"])


def _features(canvas: Canvas, face: Face) -> None:
    """Wrinkles, eyes, brows, nose."""
    has, yaw, old, male = face.has, face.yaw, ~face.has["Young"], face.has["Male"]
    dark = torch.tensor(DARK)
    for side in (-1, 1):
        x, y = yaw + side * face.eye_x, face.eye_y
        bag = canvas.line(x - 1.4, y + 2.2, x + 1.4, y + 2.2, 0.9)
        canvas.paint(bag, 0.55 * face.skin, old)
        fold = canvas.line(yaw + side * 2.6, 2.2, yaw + side * 4.4, 5.4, 0.8)
        canvas.paint(fold, 0.55 * face.skin, old)
        canvas.paint(canvas.ellipse(x, y, 1.75, 1.25), torch.tensor(WHITE))
        canvas.paint(canvas.ellipse(x, y, 0.95, 1.05), dark)
        lash = canvas.line(x - 1.7, y - 1.0, x + 1.7, y - 1.0, 0.8)
        canvas.paint(lash, dark, ~male)
        thickness = torch.where(male, 1.3, 0.7)
        brow = canvas.line(x - 1.7, y - 2.3, x + 1.7, y - 2.5, thickness)
        canvas.paint(brow, 0.85 * face.hair, ~has["Bangs"])
    small = canvas.ellipse(yaw, 1.6, 0.8, 1.3)
    canvas.paint(small, 0.84 * face.skin, ~has["Big_Nose"])
    big = canvas.ellipse(yaw, 1.4, 2.7, 2.4)
    rosy = (0.76 * face.skin + torch.tensor([0.26, 0.0, 0.0])).clamp(0, 1)
    canvas.paint(big, rosy, has["Big_Nose"])
    for side in (-1, 1):
        canvas.paint(canvas.ellipse(yaw + side * 1.2, 2.6, 0.6, 0.6), dark, has["Big_Nose"])


def _mouth(canvas: Canvas, face: Face) -> None:
    """Lips thin or thick, a straight line or an open smile."""
    smiling, big, yaw = face.has["Smiling"], face.has["Big_Lips"], face.yaw
    lip = torch.where(big, 1.0, 0.0)
    straight = canvas.ellipse(yaw, 5.3, 2.3 + 0.9 * lip, 0.7 + 1.3 * lip)
    canvas.paint(straight, face.lips, ~smiling)
    canvas.paint(
        canvas.line(yaw - 1.7, 5.3, yaw + 1.7, 5.3, 0.5), torch.tensor([0.2, 0.05, 0.05]), ~smiling
    )
    below = 1 - canvas.above(4.3 - 1.1 * lip)
    canvas.paint(
        canvas.ellipse(yaw, 4.2, 3.5 + 0.9 * lip, 2.7 + 1.4 * lip) * below, face.lips, smiling
    )
    teeth = canvas.ellipse(yaw, 4.6, 2.8, 1.7) * (1 - canvas.above(4.6))
    canvas.paint(teeth, torch.tensor(WHITE), smiling)


def _worn(canvas: Canvas, face: Face, hat: Tensor) -> None:
    """Ear rings, glasses, a hat."""
    has, yaw, width = face.has, face.yaw, face.width
    dark = torch.tensor(DARK)
    for side in (-1, 1):
        drop = canvas.ellipse(side * (width + 0.9), 4.6, 1.5, 1.9)
        canvas.paint(drop, torch.tensor(GOLD), has["Wearing_Earrings"])
        x, y = yaw + side * face.eye_x, face.eye_y
        glass = canvas.ellipse(x, y, 2.3, 2.1)
        canvas.paint(0.35 * glass, torch.tensor([0.55, 0.75, 1.0]), has["Eyeglasses"])
        canvas.paint(canvas.ring(x, y, 2.5, 1.0), dark, has["Eyeglasses"])
        temple = canvas.line(x + side * 2.4, y, side * width, y - 0.4, 0.8)
        canvas.paint(temple, dark, has["Eyeglasses"])
    bridge = canvas.line(yaw - 1.2, face.eye_y, yaw + 1.2, face.eye_y, 0.8)
    canvas.paint(bridge, dark, has["Eyeglasses"])
    crown = canvas.ellipse(0, -8.0, width + 0.4, 6.0, 3.0) * canvas.above(-7.2)
    canvas.paint(crown, hat, has["Wearing_Hat"])
    brim = canvas.line(-(width + 2.6), -7.8, width + 2.6, -7.8, 1.9)
    canvas.paint(brim, 0.6 * hat, has["Wearing_Hat"])


def _colours(count: int, generator: torch.Generator) -> Tensor:
    """Lively colours: (count, 3); one channel is high, one low."""
    draws = torch.rand(count, 3, generator=generator)
    low, high = draws.amin(1, keepdim=True), draws.amax(1, keepdim=True)
    return 0.12 + 0.70 * (draws - low) / (high - low + 1e-6)


def _background(count: int, generator: torch.Generator) -> Tensor:
    """Two pale colours that run into each other: (count, 3, 32, 32)."""
    top, bottom = (0.35 + 0.5 * torch.rand(count, 3, 1, 1, generator=generator) for _ in range(2))
    down = torch.linspace(0, 1, SIZE)[None, None, :, None]
    return (top * (1 - down) + bottom * down).expand(count, 3, SIZE, SIZE)


def _lit(image: Tensor, generator: torch.Generator) -> Tensor:
    """Light from one side, brighter or dimmer."""
    count = image.shape[0]
    gain, side = uniform(count, 0.88, 1.08, generator), uniform(count, -0.14, 0.14, generator)
    across = torch.linspace(-1, 1, SIZE)
    return (image * (gain[:, None, None, None] + side[:, None, None, None] * across)).clamp(0, 1)


def _mix(
    first: tuple[float, float, float], second: tuple[float, float, float], share: Tensor
) -> Tensor:
    """From the first colour (share 0) to the second (share 1): (b, 3)."""
    return torch.lerp(torch.tensor(first), torch.tensor(second), share[:, None])
