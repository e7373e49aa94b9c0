"""One batched matrix product a shape group, sent to the faster of the two libraries inside torch on a CPU.

    (l, i, k) (l, k, j) -> (l, i, j)

In float32 torch calls MKL, which on AMD processors takes nearly twice as long as oneDNN for the narrow
products of an equivariant layer (64 LoRAs, 28 layers of width 3072, rank 4, 16 channels, one Zen 4 core:
14.9 ms against 8.0 ms, forward; 16.3 against 11.1 ms, backward). torch hands float32 to oneDNN only when the
reduced precision of its mode "bf16" is allowed. On processors without bf16 matrix units for this (no AMX)
that mode does not round: it is plain float32. So the mode is switched on around the product where, and only
where, a measured product shows that nothing is rounded; elsewhere this is torch.bmm. bf16 goes to oneDNN by
itself; it shares the order of the backward.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["batched_matmul", "bfloat16_is_fast", "matmul_to_few", "onednn_is_exact"]


def batched_matmul(
    a: Tensor,  # (l, i, k)
    b: Tensor,  # (l, k, j)
    *,
    out: Tensor | None = None,
) -> Tensor:  # (l, i, j)
    """torch.bmm, by the faster library where the result is full float32. Differentiable, also twice.

    `out` is written to, under torch.no_grad() alone.

    Example:
        >>> batched_matmul(torch.ones(2, 3, 4), torch.ones(2, 4, 5)).shape
        torch.Size([2, 3, 5])
    """
    alike = a.device.type == "cpu" and a.dtype == b.dtype
    # autocast chooses a type of its own, in torch.bmm and in its backward
    if alike and _is_faster(a.dtype) and not torch.is_autocast_enabled("cpu"):
        return _by_onednn(a, b, out)
    return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)


def matmul_to_few(
    a: Tensor,  # (b, F)
    b: Tensor,  # (F, k)
) -> Tensor:  # (b, k)
    """a @ b of a wide a and few columns: 64 x 65,536 times 12 take 1.9 ms so against 4.4 by torch.matmul.

    Example:
        >>> matmul_to_few(torch.ones(2, 3), torch.ones(3, 2)).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    if b.shape[1] == 1:  # a product with a vector, which torch does at the speed of memory
        return a @ b
    return batched_matmul(a.unsqueeze(0), b.unsqueeze(0)).squeeze(0)


def _is_faster(dtype: torch.dtype) -> bool:
    return dtype == torch.bfloat16 or (dtype == torch.float32 and onednn_is_exact())


def _by_onednn(a: Tensor, b: Tensor, out: Tensor | None) -> Tensor:
    if out is None and torch.is_grad_enabled():
        product: Tensor = _OneDNNProduct.apply(a, b)  # type: ignore[no-untyped-call]
        return product
    with _mode(a.dtype):
        return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN's mode "bf16" gives full float32 on this machine: decided once, by a product."""
    backend: Any = torch.backends.mkldnn
    if not hasattr(backend, "matmul") or not backend.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4, 256, 512, generator=generator)
    b = torch.randn(4, 512, 16, generator=generator)
    exact = torch.bmm(a.double(), b.double())
    with torch.no_grad(), _ONEDNN():
        error = (torch.bmm(a, b) - exact).norm() / exact.norm()
    # float32 leaves 3e-7 here, rounding the factors to bf16 would leave 2e-3
    return float(error) < 2e-6


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether products in bfloat16 take less time than in float32: on accelerators, and CPUs made for it."""
    has: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type != "cpu" or bool(has and has())


class _OneDNNProduct(torch.autograd.Function):
    """bmm whose forward and backward both run under the switch: autograd leaves the block in between."""

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        with _mode(a.dtype):
            return torch.bmm(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        (grad,) = grads
        grad_a = batched_matmul(grad, b.mT) if ctx.needs_input_grad[0] else None
        # (grad^T a)^T, not a^T grad, because a is read along its rows: 17 ms against 30 for 294 MB in
        # float32, 4.8 against 6.7 for 44 MB in bf16
        grad_b = batched_matmul(grad.mT, a).mT if ctx.needs_input_grad[1] else None
        return grad_a, grad_b


class _Switch:
    """torch's process-wide mode for float32 products, shared by threads: the last one out restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = "none"

    @contextmanager
    def __call__(self) -> Iterator[None]:
        mode: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        with self._lock:
            if self._users == 0:
                self._before = mode.fp32_precision
                mode.fp32_precision = "bf16"
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    mode.fp32_precision = self._before


_ONEDNN = _Switch()


def _mode(dtype: torch.dtype) -> AbstractContextManager[None]:
    """The switch where the type needs it."""
    return _ONEDNN() if dtype == torch.float32 else nullcontext()
