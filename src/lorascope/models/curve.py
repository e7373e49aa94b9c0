"""A cubic curve from what is predicted to what was found, learned on predictions of LoRAs left out.

    bend(x) = c0 + c1 x + c2 x^2 + c3 x^3  between low and high, constant beyond

Sums of ridges are straight where labels are not: a loss that explodes for some is foretold too small for just
these. The curve is used from where it begins to rise to where it ends to rise, not at all where it foretells
left-out labels no better than the line does. What it is not: a model; it knows numbers only.
"""

import torch
from torch import Tensor

__all__ = ["bend", "learn_curve", "no_curve"]

FAR = 1e12  # nothing is predicted beyond


def no_curve(outputs: int) -> Tensor:  # (6, k)
    """What leaves predictions as they are.

    Example:
        >>> bend(torch.tensor([[2.5]]), no_curve(1)).item()
        2.5
    """
    rows = torch.tensor([0.0, 1.0, 0.0, 0.0, -FAR, FAR], dtype=torch.float64)
    return rows.unsqueeze(1).repeat(1, outputs)


def bend(x: Tensor, curve: Tensor) -> Tensor:  # (b, k), (6, k) -> (b, k)
    """The curve's value at predictions; its rows are c0 to c3, low and high."""
    c0, c1, c2, c3, low, high = curve
    x = torch.minimum(torch.maximum(x, low), high)
    return c0 + x * (c1 + x * (c2 + x * c3))


def learn_curve(left_out: Tensor, y: Tensor) -> Tensor:  # (b, k), (b, k) -> (6, k)
    """The curve of each column, by least squares.

    Example:
        >>> x = torch.linspace(-1, 1, 50, dtype=torch.float64).unsqueeze(1)
        >>> curve = learn_curve(x, x + x**3)
        >>> round(bend(torch.tensor([[0.5]]), curve).item(), 6)
        0.625
    """
    columns = [_column(x, t) for x, t in zip(left_out.T.double(), y.T.double(), strict=True)]
    return torch.stack(columns, 1)


def _column(x: Tensor, y: Tensor) -> Tensor:  # (b,), (b,) -> (6,)
    straight = no_curve(1)[:, 0].to(x.device)
    if len(x) <= 4:
        return straight  # as many coefficients as LoRAs
    size = x.abs().max().clamp(min=1e-12)
    powers = torch.stack([(x / size) ** k for k in range(4)], 1)
    q, r = torch.linalg.qr(powers)
    if float(r.diagonal().abs().min()) < 1e-6 * len(x) ** 0.5:
        return straight  # too few different predictions
    rest = (y - q @ (q.T @ y)) / (1 - q.square().sum(1)).clamp(min=1e-6)  # left out by the curve
    if not float(rest.square().sum()) < float((y - x).square().sum()):
        return straight
    found = torch.linalg.solve_triangular(r, (q.T @ y).unsqueeze(1), upper=True)[:, 0]
    found = found / size ** torch.arange(4, device=x.device)
    low, high = _rising(found, x)
    if not low < high:
        return straight
    return torch.cat([found, found.new_tensor([low, high])])


def _rising(curve: Tensor, x: Tensor) -> tuple[float, float]:
    """Between which predictions the curve rises, about their median; an empty range where it falls there."""
    middle, low, high = float(x.median()), float(x.min()), float(x.max())
    c1, c2, c3 = (k * float(curve[k]) for k in (1, 2, 3))  # of its slope
    if c1 + c2 * middle + c3 * middle**2 <= 0:
        return middle, middle
    for turn in _roots(c1, c2, c3):
        low = max(low, turn) if turn < middle else low
        high = min(high, turn) if turn > middle else high
    return low, high


def _roots(c: float, b: float, a: float) -> list[float]:
    """Where a x^2 + b x + c is zero."""
    inside = b * b - 4 * a * c
    if inside <= 0:
        return []
    # the sum of equal signs loses no digits; the other root follows from the product
    half = -(b + (inside**0.5 if b >= 0 else -(inside**0.5))) / 2
    return [
        root for root in (half / a if a else None, c / half if half else None) if root is not None
    ]
