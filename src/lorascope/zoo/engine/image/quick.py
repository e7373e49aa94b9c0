"""The element-wise parts of a UNet in C, where a C compiler works: norms, small attention, gates.

torch runs each of them as many passes over memory, and torch.compile needs minutes and is no faster;
`data/kernels` is compiled in seconds, once for each processor, and takes a third of the
time of a step. Sums are float32; frozen weights get no gradient.
"""

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from lorascope.compiled import compiled, compiled_or_none
from lorascope.zoo.engine.panels import whole

__all__ = ["adapted", "attention", "gated", "group_norm", "layer_norm", "library", "run"]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, with those of whole blocks, or None, said once, where no C compiler works."""
    found = [compiled_or_none(name) for name in ("blocks", "transformer", "unet")]
    return found[-1] if all(found) else None


def _half(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16


def run(name: str, *values: Any, source: str = "unet") -> None:
    """Call a kernel: tensors by their addresses, truth values as an int, integers as 64 bits."""
    getattr(compiled(source), name)(*map(_argument, values))


def _argument(value: Any) -> Any:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, bool):
        return ctypes.c_int(value)
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_float(value)


def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, *, silu: bool
) -> Tensor:
    """Group norm of images (n, c, h, w), then silu if asked."""
    found: Tensor = GroupNorm.apply(x, weight, bias, groups, epsilon, silu)  # type: ignore[no-untyped-call]
    return found


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Layer norm over the last axis."""
    found: Tensor = LayerNorm.apply(x, weight, bias, epsilon)  # type: ignore[no-untyped-call]
    return found


def adapted(x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor) -> Tensor:
    """A linear layer with adapters: W x + bias + B A x.

    x: (s, t, m), A: (s, r, m) and B: (s, n, r) in float32 -> (s, t, n).
    """
    found: Tensor = Adapted.apply(x, weight, bias, A, B)  # type: ignore[no-untyped-call]
    return found


def gated(x: Tensor, bias: Tensor) -> Tensor:
    """Of x + bias, the first half of the last axis times gelu of the second.

    x: (..., 2 c), bias: (2 c,) in float32 -> (..., c).
    """
    found: Tensor = Gate.apply(x, bias)  # type: ignore[no-untyped-call]
    return found


def attention(
    query: Tensor, key: Tensor, value: Tensor, which: Tensor, heads: int, scale: float
) -> Tensor:
    """Attention in heads. query: (s, b, t, c); key, value: (s, e, u, c); which: (b,) of e texts."""
    found: Tensor = Attend.apply(query, key, value, which, heads, scale)  # type: ignore[no-untyped-call]
    return found


class GroupNorm(torch.autograd.Function):
    """Group norm, then silu if asked."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        epsilon: float,
        silu: bool,
    ) -> Tensor:
        """Normalise each image's groups."""
        x = x.contiguous(memory_format=torch.channels_last)
        n, c, h, w = x.shape
        y = torch.empty_like(x)
        mean, rate = torch.empty(2, n, c).unbind()
        size = (n, h * w, c, groups)
        run("group_norm", x, y, weight, bias, mean, rate, *size, epsilon, silu, _half(x))
        ctx.save_for_backward(x, weight, bias, mean, rate)
        ctx.facts = (size, silu)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the images alone."""
        x, weight, bias, mean, rate = ctx.saved_tensors
        size, silu = ctx.facts
        g = gradient.contiguous(memory_format=torch.channels_last)
        gx = torch.empty_like(x)
        kept = (x, g, gx, weight, bias, mean, rate)
        run("group_norm_backward", *kept, *size, silu, _half(x))
        return gx, None, None, None, None, None


class LayerNorm(torch.autograd.Function):
    """Layer norm over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Normalise each row."""
        x = x.contiguous()
        n, c = x.numel() // x.shape[-1], x.shape[-1]
        y = torch.empty_like(x)
        mean, rate = torch.empty(2, n).unbind()
        run("layer_norm", x, y, weight, bias, mean, rate, n, c, epsilon, _half(x))
        ctx.save_for_backward(x, weight, mean, rate)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the rows alone."""
        x, weight, mean, rate = ctx.saved_tensors
        g, gx, n = gradient.contiguous(), torch.empty_like(x), len(mean)
        run("layer_norm_backward", x, g, gx, weight, mean, rate, n, x.shape[-1], _half(x))
        return gx, None, None, None


class Adapted(torch.autograd.Function):
    """A frozen linear layer with the low-rank part of each adapter."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor
    ) -> Tensor:
        """Of every adapter's rows."""
        x, A, B = x.contiguous(), whole(A), whole(B)
        y = torch.nn.functional.linear(x, weight, bias)
        low = torch.empty(*x.shape[:-1], A.shape[1])
        size = (*x.shape, B.shape[1], A.shape[1], A.stride(0), B.stride(0))
        run("adapt", x, y, A, B, low, *size, _half(x))
        ctx.save_for_backward(x, weight, A, B, low)
        ctx.size = size
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the rows, where they need one, and of A and B."""
        x, weight, A, B, low = ctx.saved_tensors
        g = gradient.contiguous()
        gx = g @ weight if ctx.needs_input_grad[0] else None
        gA, gB = torch.empty(A.shape), torch.empty(B.shape)
        run("adapt_backward", x, g, gx, A, B, low, gA, gB, *ctx.size, _half(x))
        return gx, None, None, gA, gB


class Gate(torch.autograd.Function):
    """a gelu(g) of (a, g)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        """Of each row."""
        x = x.contiguous()
        c = x.shape[-1] // 2
        y = x.new_empty(*x.shape[:-1], c)
        run("gate", x, bias, y, y.numel() // c, c, _half(x))
        ctx.save_for_backward(x, bias)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of both halves."""
        x, bias = ctx.saved_tensors
        c = x.shape[-1] // 2
        g, gx = gradient.contiguous(), torch.empty_like(x)
        run("gate_backward", x, bias, g, gx, g.numel() // c, c, _half(x))
        return gx, None


class Attend(torch.autograd.Function):
    """softmax(q k^T) v in heads, each row with its own text."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, which: Tensor, heads: int, scale: float
    ) -> Tensor:
        """Of every row."""
        q, k, v = (each.contiguous() for each in (q, k, v))
        y = torch.empty_like(q)
        size = (*q.shape[:2], k.shape[1], q.shape[2], k.shape[2], q.shape[3], heads)
        run("attend", q, k, v, which, y, *size, scale, _half(q))
        ctx.save_for_backward(q, k, v, which)
        ctx.facts = (size, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of queries, keys and values; those of a text are summed over its rows."""
        q, k, v, which = ctx.saved_tensors
        size, scale = ctx.facts
        gq, g = torch.empty_like(q), gradient.contiguous()
        gk, gv = (torch.zeros(k.shape) for _ in range(2))
        run("attend_backward", q, k, v, which, g, gq, gk, gv, *size, scale, _half(q))
        return gq, gk.to(k.dtype), gv.to(v.dtype), None, None, None
