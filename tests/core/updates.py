"""Updates of every kind, drawn at random in float64."""

import torch

from lorascope.core import Hadamard, Kronecker, LowRank
from tests.conftest import random_pair


def matrix(p, q, generator):
    return torch.randn(p, q, generator=generator, dtype=torch.float64)


def made(kind, generator, kernel=()):
    """An update of 12 x 18."""
    return {
        "pair": lambda: LowRank(matrix(12, 3, generator), matrix(18, 3, generator), kernel),
        "whole": lambda: Kronecker(matrix(3, 2, generator), matrix(4, 9, generator), kernel),
        "second decomposed": lambda: Kronecker(
            matrix(3, 2, generator), random_pair(4, 9, 2, generator), kernel
        ),
        "first decomposed": lambda: Kronecker(
            random_pair(3, 2, 1, generator), matrix(4, 9, generator), kernel
        ),
        "both decomposed": lambda: Kronecker(
            random_pair(2, 2, 5, generator), random_pair(6, 9, 2, generator), kernel
        ),
        "product": lambda: product(12, 18, 2, 3, generator, kernel),
        "wide product": lambda: product(12, 18, 4, 4, generator, kernel),
        "zero": lambda: 0.0 * product(12, 18, 2, 2, generator, kernel),
    }[kind]()


def product(n, m, r, q, generator, kernel=()):
    one, two = random_pair(n, m, r, generator), random_pair(n, m, q, generator)
    return Hadamard(LowRank(one.u, one.v, kernel), LowRank(two.u, two.v, kernel))


KINDS = (
    "pair", "whole", "second decomposed", "first decomposed", "both decomposed", "product", "wide product",
    "zero",
)  # fmt: skip


def dense_twin(update):
    """The update by its definition."""
    if isinstance(update, Kronecker):
        parts = [w.u @ w.v.T if isinstance(w, LowRank) else w for w in (update.w1, update.w2)]
        return torch.kron(*(part.contiguous() for part in parts))
    if isinstance(update, Hadamard):
        return (update.one.u @ update.one.v.T) * (update.two.u @ update.two.v.T)
    return update.u @ update.v.T
