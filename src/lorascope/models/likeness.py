"""Likeness of rows of numbers by their distance, in units of the usual distance. It knows numbers only."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["alike", "apart", "leading", "principal", "some_rows", "usual_distance"]


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
    one, other = x.double(), landmarks.double()
    both = one.square().sum(1, keepdim=True) + other.square().sum(1)
    return both.addmm_(one, other.T, alpha=-2).clamp_(min=0).div_(usual)


def alike(far: Tensor, widths: Mapping[str, float]) -> dict[str, Tensor]:  # (b, M) -> (b, M) each
    """exp(-t far) for each t.

    Example:
        >>> alike(torch.tensor([0.0, 1.0]), {"wide": 1.0})["wide"].log().tolist()
        [0.0, -1.0]
    """
    return {name: (far * -t).exp_() for name, t in widths.items()}


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
