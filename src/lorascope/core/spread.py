"""Work on several threads where torch itself takes one: small decompositions in a row, kernels in C.

What it is not: a pool that stays, or a change of torch's own threads. `work` has to let go of the interpreter.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["spread"]

Part = TypeVar("Part")
Result = TypeVar("Result")


def spread(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What `work` makes of each part, on as many threads as torch takes.

    Example:
        >>> spread(abs, [-1, 2])
        [1, 2]
    """
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))
