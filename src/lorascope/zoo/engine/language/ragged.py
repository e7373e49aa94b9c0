"""`Ragged`: the tokens of rows of different lengths as one list, and the rows padded to one length.

    rows (n, t)     a b c .        list (k)     a b c d e f g h i
                    d e . .
                    f g h i

A list holds no padding, so whatever is the same for every token costs what the tokens cost: norms, products
with frozen matrices. Rows are wanted where tokens of a row or of a slot meet: attention, adapters. Each is
the other one's derivative, and both only gather:

    pad(x)[places[i]] = x[i], 0 elsewhere        unpad(y)[i] = y[places[i]]
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Ragged"]


class Ragged(NamedTuple):
    """Which places of rows hold a token; rows have any shape (...): (n, t), or (k,) for some of a list."""

    token: Tensor  # (...) int64: which token stands at each place, -1 for none
    places: Tensor  # (dimensions, k) int64: where each token stands

    @classmethod
    def of(cls, real: Tensor, count: int) -> "Ragged":
        """The places that hold a token. real: (...) bool; count: how many, known without a device's answer.

        Example:
            >>> Ragged.of(torch.tensor([[True, True, False], [True, False, False]]), 3)
            Ragged(token=tensor([[ 0,  1, -1],
                    [ 2, -1, -1]]), places=tensor([[0, 0, 1],
                    [0, 1, 0]]))
        """
        ends = real.flatten().cumsum(0)
        place = torch.searchsorted(ends, torch.arange(1, count + 1, device=real.device))
        places: list[Tensor] = []
        for size in reversed(real.shape):
            places.insert(0, place % size)
            place = place // size
        return cls(torch.where(real, ends.view(real.shape) - 1, -1), torch.stack(places))

    def within(self, others: "Ragged", names: Tensor) -> "Ragged":
        """These tokens as some of a list of others, no two the same.

        names: (...) int64, which of the others stands at each place of these tokens' rows.
        """
        chosen = names[self.places.unbind()]
        numbers = torch.arange(len(chosen), device=chosen.device)
        absent = torch.full_like(others.places[0], -1)
        return Ragged(absent.scatter(0, chosen, numbers), chosen[None])

    def to(self, device: torch.device) -> "Ragged":
        """The same on a device."""
        return Ragged(self.token.to(device), self.places.to(device))

    def pad(self, x: Tensor) -> Tensor:
        """Tokens into their rows, 0 where none stands. x: (k, *d) -> (..., *d)."""
        padded: Tensor = _Pad.apply(x, self.token, self.places)  # type: ignore[no-untyped-call]
        return padded

    def unpad(self, x: Tensor) -> Tensor:
        """Tokens out of their rows. x: (..., *d) -> (k, *d)."""
        tokens: Tensor = _Unpad.apply(x, self.token, self.places)  # type: ignore[no-untyped-call]
        return tokens


def _padded(x: Tensor, token: Tensor) -> Tensor:
    real = (token >= 0).view(*token.shape, *[1] * (x.ndim - 1))
    return torch.where(real, x[token.clamp(min=0)], 0)


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return _padded(x, token)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return gradient[places.unbind()], None, None


class _Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(token)
        return x[places.unbind()]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (token,) = ctx.saved_tensors
        return _padded(gradient, token), None, None
