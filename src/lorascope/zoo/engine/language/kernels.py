"""Compiled kernels where a C++ compiler works, plain ones with one message where none does."""

import functools
import logging
import random
from dataclasses import replace

import torch
import torch._dynamo.config as dynamo
from torch import nn

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
    """The plain kernels, or the compiled ones."""
    if not compiled:
        return EAGER
    # a shape and a place in the network compile once each: more than the default of 8
    dynamo.recompile_limit = max(64, dynamo.recompile_limit)
    block, head = (
        torch.compile(kernel, dynamic=False, fullgraph=True) for kernel in (EAGER.block, EAGER.head)
    )
    return Kernels(block, head, static=True)


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
