"""Which kernels compute: whole blocks in C, torch's compiled ones, or plain ones where no compiler works.

Those in C (`quick.py`) take float32 on a processor, small blocks, no DoRA; they need nothing but a C compiler.
"""

import functools
import logging
import random
from dataclasses import replace

import torch
import torch._dynamo.config as dynamo
from torch import Tensor, nn
from torch._dynamo import maybe_mark_dynamic

from lorascope.zoo.engine.language import quick
from lorascope.zoo.engine.language.causal_lm import Dropout, View, block_forward, head_losses
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.network import EAGER, Kernels, Pairs

__all__ = ["compiler_works", "frozen", "kernels_for"]

log = logging.getLogger(__name__)


@functools.cache
def compiler_works() -> bool:
    """Try torch.compile on a function that no cache can hold; says so once where it fails.

    Trying is the only sure test: a compiler may be there without Python's headers.
    """
    fresh = random.random()
    try:
        torch.compile(lambda x: x.cos() * fresh)(torch.ones(16))
    except Exception as problem:  # torch raises many kinds for the many ways to fail
        reason = str(problem).strip().splitlines()[0] if str(problem) else type(problem).__name__
        log.warning(
            "compiling kernels: no C++ compiler works here (%s). Going on without: the same "
            "adapters, about half as fast. Try installing g++ and python3-dev, or setting CXX",
            reason[:200],
        )
        return False
    return True


def kernels_for(
    base: FrozenBase, length: int, *, dora: bool = False, alike: bool = True
) -> Kernels:
    """The fastest kernels that compute on a base.

    Args:
        length: of the longest row, in tokens.
        dora: whether the adapters have magnitudes.
        alike: whether the rows of all calls have one shape: torch compiles for each.
    """
    if not base.compiled:
        return EAGER
    if not dora and length <= quick.LONGEST and quick.packed(base) is not None:
        return QUICK
    return compiled() if alike and compiler_works() else EAGER


def quick_block(
    x: Tensor, base: FrozenBase, number: int, pairs: Pairs, view: View, dropout: Dropout | None
) -> Tensor:
    """One block in C, or plain where the kernel does not take it. x: (k, d) -> (k', d)."""
    packed = quick.packed(base)
    if packed is None or not quick.fits(x, pairs, view):
        return EAGER.block(x, base, number, pairs, view, dropout)
    return quick.block(x, packed, number, base.heads, pairs, view, dropout)


def quick_head(x: Tensor, base: FrozenBase, labels: Tensor) -> Tensor:
    """Cross entropy of the labels of each token. x: (k, d), labels: (k, w) -> (k, w)."""
    packed = quick.packed(base)
    if packed is None or x.dtype != torch.float32:
        return EAGER.head(x, base, labels)
    return quick.head(x, packed, labels, base.heads.epsilon)


QUICK = Kernels(quick_block, quick_head)


@functools.cache
def compiled() -> Kernels:
    """The plain kernels, compiled by torch for any number of tokens; a single one takes the plain."""
    # a shape and a place in the network compile once each: more than the default of 8
    dynamo.recompile_limit = max(64, dynamo.recompile_limit)
    block, head = (
        torch.compile(kernel, dynamic=False, fullgraph=True)
        for kernel in (block_forward, head_losses)
    )

    def any_block(
        x: Tensor, base: FrozenBase, number: int, pairs: Pairs, view: View, dropout: Dropout | None
    ) -> Tensor:
        asked = view.asked
        if (view.rows if asked is None else asked.rows).places.shape[1] == 1:
            return EAGER.block(x, base, number, pairs, view, dropout)
        any_count(0, x)
        any_count(1, view.rows.places)
        if asked is not None:
            any_count(0, asked.some.token)
            any_count(1, asked.some.places, asked.rows.places)
        if dropout is not None:
            any_count(0, dropout.threshold, dropout.scale, *dropout.noise.values())
        found: Tensor = block(x, base.blocks[number], pairs, view, dropout, base.heads)
        return found

    def any_head(x: Tensor, base: FrozenBase, labels: Tensor) -> Tensor:
        if len(x) == 1:
            return EAGER.head(x, base, labels)
        any_count(0, x, labels)
        found: Tensor = head(x, base.norm, base.head, labels, base.heads.epsilon)
        return found

    return Kernels(any_block, any_head, static=True)


def any_count(dim: int, *tensors: Tensor) -> None:
    """Say that a dimension counts tokens, so that no kernel is compiled again for another number."""
    for x in tensors:
        maybe_mark_dynamic(x, dim)


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
