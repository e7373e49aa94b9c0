"""DoRA: each row of the new weight has a magnitude of its own (Liu et al. 2024, equation 5).

    W' = magnitude * (W + B A) / |W + B A|        B with the scale, |.| row by row, held constant

In a forward pass it is a gain on what the frozen weight gives: with gain = magnitude / |W + B A| - 1

    W' x = W x + gain * W x + (1 + gain) * B A x

As in PEFT no gradient flows through the norm (section 4.3), and the gain acts on the input that
dropout has thinned. The norms need no dense product:

    |W + B A|^2 = |W|^2 + 2 sum_r (W A^T) * B + sum_r (B (A A^T)) * B
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lorascope.zoo.engine.layout import Layout

__all__ = ["row_norms", "with_gains"]


def row_norms(weight: Tensor, A: Tensor, B: Tensor, frozen: Tensor) -> Tensor:
    """|W + B A| of each row.

    weight: (n, m), A: (g, r, m), B: (g, n, r), frozen: |W| (n,) -> (g, n).
    """
    cross = ((A @ weight.mT).mT * B).sum(2)
    own = ((B @ (A @ A.mT)) * B).sum(2)
    return (frozen.square() + 2 * cross + own).clamp(min=0).sqrt()


def with_gains(layout: Layout, rows: Tensor, weight_of: Callable[[str], Tensor]) -> Tensor:
    """Rows whose magnitudes are replaced by gains; without DoRA the rows as they are.

    rows: (g, p), the scale in B; weight_of: layer -> frozen weight (n, m). Gains are differences of
    near numbers, so they are made here, before a cast to lower precision.
    """
    if layout.norms is None:
        return rows
    pieces = []
    for name, (A, B, magnitude) in layout.unpack(rows).items():
        assert magnitude is not None
        with torch.no_grad():
            weight, frozen = (t.to(rows.dtype) for t in (weight_of(name), layout.norms[name]))
            norm = row_norms(weight, A, B, frozen)
        pieces += [A.flatten(1), B.flatten(1), magnitude / norm - 1]
    return torch.cat(pieces, 1)
