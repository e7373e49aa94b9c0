"""Seeds and hyper-parameters of one LoRA: pure functions of the recipe's seed and the index."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch

from lorascope.errors import DataError

__all__ = ["drawn", "seed_of"]


def seed_of(*parts: object) -> int:
    """63 bits from names and numbers.

    Example:
        >>> seed_of("faces", 0, 1) == seed_of("faces", 0, 1)
        True
    """
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def drawn(rule: Mapping[str, Any], generator: torch.Generator) -> float:
    """A hyper-parameter by its rule: {"choice": [...]}, {"uniform": [a, b]}, {"log_uniform": [a, b]}.

    Raises:
        DataError: the rule is another.
    """
    (kind, given), *_ = rule.items()
    draw = float(torch.rand((), generator=generator, dtype=torch.float64))
    if kind == "choice":
        return float(given[int(draw * len(given))])
    if kind == "uniform":
        return float(given[0] + draw * (given[1] - given[0]))
    if kind == "log_uniform":
        return float(given[0] * math.exp(draw * math.log(given[1] / given[0])))
    raise DataError(
        f"drawing a hyper-parameter: found the rule {kind!r}, expected 'choice', 'uniform' or "
        "'log_uniform'. Try 'uniform', between two ends"
    )
