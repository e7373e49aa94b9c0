"""Which kernels compute: whole blocks in C, or plain ones in torch.

Those in C (`quick.py`) take float32 on a processor; they need nothing but a C compiler.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from lorascope.zoo.engine.language import quick
from lorascope.zoo.engine.language.causal_lm import Dropout, View
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.network import EAGER, Kernels, Pairs

__all__ = ["QUICK", "frozen", "kernels_for"]


def kernels_for(base: FrozenBase, length: int) -> Kernels:
    """The fastest kernels that compute on a base rows of up to so many tokens."""
    if base.compiled and length <= quick.LONGEST and quick.packed(base) is not None:
        return QUICK
    return EAGER


def quick_block(
    x: Tensor, base: FrozenBase, number: int, pairs: Pairs, view: View, dropout: Dropout | None
) -> Tensor:
    """One block in C, or plain where the kernel does not take it. x: (k, d) -> (k', d)."""
    packed = quick.packed(base)
    if packed is None or not quick.fits(x, packed, pairs, view):
        return EAGER.block(x, base, number, pairs, view, dropout)
    return quick.block(x, packed, number, base.heads, pairs, view, dropout)


def quick_head(x: Tensor, base: FrozenBase, labels: Tensor) -> Tensor:
    """Cross entropy of the labels of each token. x: (k, d), labels: (k, w) -> (k, w)."""
    packed = quick.packed(base)
    if packed is None or x.dtype != torch.float32:
        return EAGER.head(x, base, labels)
    return quick.head(x, packed, labels, base.heads.epsilon)


QUICK = Kernels(quick_block, quick_head)


def frozen(
    base: nn.Module | FrozenBase, dtype: torch.dtype | None, compile: bool | None
) -> FrozenBase:
    """A base ready to use. None keeps what a `FrozenBase` says (for a model: float32, plain)."""
    if not isinstance(base, FrozenBase):
        base = FrozenBase.of(base, dtype or torch.float32)
    elif dtype is not None:
        base = base.to(dtype)
    if compile is None or compile == base.compiled:
        return base
    return replace(base, compiled=compile)
