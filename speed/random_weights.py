"""Networks made where they are used: on their device, in their type, with cheap random weights.

Drawing 3 billion numbers takes a minute. Time does not depend on values, so a million are drawn and repeated.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["made_in"]

DRAWN, SIZE = 2**20, 0.02  # numbers that are drawn, and their standard deviation
DRAWS = (
    *(Tensor.normal_, Tensor.uniform_),
    *(nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, nn.init.trunc_normal_),
)


class Repeated(TorchFunctionMode):
    """Fills whatever is drawn with repetitions of a few numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The call itself, unless it draws."""
        named = dict(kwargs or {})
        if func in DRAWS:
            return fill(args[0] if args else named["tensor"])
        return func(*args, **named)


@torch.no_grad()
def fill(x: Tensor) -> Tensor:  # of any shape
    """Overwrites it with small Gaussian numbers that repeat."""
    few = torch.empty(min(DRAWN, x.numel()), device=x.device)
    few = few.normal_(std=SIZE, generator=torch.Generator(x.device).manual_seed(0)).to(x.dtype)
    for part in x.view(-1).split(max(1, len(few))):
        part.copy_(few[: len(part)])
    return x


@contextlib.contextmanager
def made_in(device: str, dtype: torch.dtype) -> Iterator[None]:
    """New parameters are on this device and of this type: a model of 3 billion is never held in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), Repeated():
            yield
    finally:
        torch.set_default_dtype(before)
