"""Compiled kernels where a C++ compiler works, plain ones with one message where none does."""

import functools
import logging
import random
from dataclasses import replace
from typing import Any

import torch
import torch._dynamo.config as dynamo
from torch import Tensor, nn
from torch._dynamo import maybe_mark_dynamic

from lorascope.zoo.engine.language.causal_lm import Block, Dropout, Heads, View
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.network import EAGER, Kernels

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


@functools.cache
def kernels_for(compiled: bool) -> Kernels:
    """The plain kernels, or those compiled for any number of tokens; a single one takes the plain."""
    if not compiled:
        return EAGER
    # a shape and a place in the network compile once each: more than the default of 8
    dynamo.recompile_limit = max(64, dynamo.recompile_limit)
    block, head = (
        torch.compile(kernel, dynamic=False, fullgraph=True) for kernel in (EAGER.block, EAGER.head)
    )

    def any_block(
        x: Tensor, weights: Block, pairs: Any, view: View, dropout: Dropout | None, heads: Heads
    ) -> Tensor:
        asked = view.asked
        if (view.rows if asked is None else asked.rows).places.shape[1] == 1:
            return EAGER.block(x, weights, pairs, view, dropout, heads)
        any_count(0, x)
        any_count(1, view.rows.places)
        if asked is not None:
            any_count(0, asked.some.token)
            any_count(1, asked.some.places, asked.rows.places)
        if dropout is not None:
            any_count(0, dropout.threshold, dropout.scale, *dropout.noise.values())
        return block(x, weights, pairs, view, dropout, heads)

    def any_head(x: Tensor, norm: Tensor, weight: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        if len(x) == 1:
            return EAGER.head(x, norm, weight, labels, epsilon)
        any_count(0, x, labels)
        return head(x, norm, weight, labels, epsilon)

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
    return replace(base, compiled=compile and compiler_works())
