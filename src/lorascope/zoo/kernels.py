"""Compiled kernels where a C++ compiler works, plain ones with one message where none does."""

import functools
import logging
import random

import torch

from lorascope.zoo.network import EAGER, Kernels

__all__ = ["compiler_works", "kernels_for"]

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
def kernels_for(compile: bool) -> Kernels:
    """The plain kernels, or the compiled ones if asked for and possible."""
    if not compile or not compiler_works():
        return EAGER
    block, head = (
        torch.compile(kernel, dynamic=False, fullgraph=True) for kernel in (EAGER.block, EAGER.head)
    )
    return Kernels(block, head, static=True)
