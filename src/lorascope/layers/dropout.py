"""Row dropout: whole rows of u and of v are zeroed in training, the others scaled by 1 / (1 - p).

    u'_lbrc = u_lbrc e_lbc / (1 - p),    e Bernoulli(1 - p), independent for v

A row is a channel, the same in all r columns (the reference code's "EquivDropout", paper section 6.2).
Dropping single entries would tie the result to the gauge.

Under g: a row mask acts on rows, g on columns.
"""

import torch
from torch import Tensor, nn

from lorascope.errors import DataError
from lorascope.layers.hidden import HiddenPair

__all__ = ["RowDropout"]


class RowDropout(nn.Module):
    """Dropout of rows with probability p; the identity in evaluation.

    Example:
        >>> pair = HiddenPair(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3))
        >>> RowDropout(0.5).eval()(pair) is pair
        True
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise DataError(f"Building row dropout: found p = {p}, expected 0 <= p < 1.")
        self.p = p

    def forward(self, pair: HiddenPair) -> HiddenPair:  # (l, b, r, c) -> (l, b, r, c)
        if not self.training or self.p == 0.0:
            return pair
        return HiddenPair(self._drop(pair.u), self._drop(pair.v))

    def _drop(self, x: Tensor) -> Tensor:
        layers, size, _, channels = x.shape
        keep = torch.empty(layers, size, 1, channels, dtype=x.dtype, device=x.device)
        return x * keep.bernoulli_(1.0 - self.p).div_(1.0 - self.p)
