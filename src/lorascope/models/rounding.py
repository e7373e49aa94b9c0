"""Large tables of learned numbers keep the 8 bits of bfloat16: a folder holds half as much.

Errors of single numbers average out in the sums that they enter: at the shapes of Stable Diffusion 1.4 answers
move by about 1/1000 of their deviation.
"""

from torch import Tensor

__all__ = ["ROUNDED_FROM", "rounded"]

ROUNDED_FROM = 1_000_000  # numbers


def rounded(x: Tensor, among: int | None = None) -> Tensor:
    """The tensor in its own type, its numbers rounded to bfloat16 where there are many.

    `among` is how many there are in all tables of its kind together, where it has others beside it.

    Example:
        >>> import torch
        >>> rounded(torch.tensor([0.1])).item() == torch.tensor(0.1).item()
        True
    """
    return x if (among or x.numel()) < ROUNDED_FROM else x.bfloat16().to(x.dtype)
