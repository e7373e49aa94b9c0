"""Equivariant gates: a row of u and of v is scaled by an invariant number.

    a_lbi = sum_j (u v^T)_ij = u_i . sum_j v_j         u'_i = sigma(a_i) u_i
    d_lbj = sum_i (u v^T)_ij = v_j . sum_i u_i         v'_j = sigma(d_j) v_j

(arXiv 2410.04207, section 4.2, lemma 2: equivariant for any real sigma.) The sums are formed from the pair,
in O(r c), never from the c x c product.

Under g: a and d are sums of entries of u v^T, which does not change; a scalar commutes with g.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from lorascope.errors import DataError
from lorascope.layers.hidden import HiddenPair

__all__ = ["Gate", "GateKind"]

GateKind = Literal["sign", "smooth"]


class Gate(nn.Module):
    """Scales rows by sigma of the row sums of the product.

    "sign": sigma(x) = ReLU(sign x), the paper's: a row passes or is zero. It has no gradient of its own and
    jumps where a row sum is zero.
    "smooth": sigma(x) = 1 / (1 + exp(-slope x)) with one learned slope a layer and side, 1 at first.

    Example:
        >>> Gate("sign", layers=1)(HiddenPair(torch.ones(1, 1, 1, 2), -torch.ones(1, 1, 1, 2))).u
        tensor([[[[0., 0.]]]])
    """

    def __init__(self, kind: GateKind, layers: int) -> None:
        super().__init__()
        if kind not in ("sign", "smooth"):
            raise DataError(f"Building a gate: found {kind!r}, expected 'sign' or 'smooth'.")
        self.kind = kind
        if kind == "smooth":
            self.slope = nn.Parameter(torch.ones(2, layers))

    def forward(self, pair: HiddenPair) -> HiddenPair:  # (l, b, r, c) -> (l, b, r, c)
        u, v = pair
        # the sum of v over channels is one vector of length r for each layer and LoRA
        a = (u * v.sum(-1, keepdim=True)).sum(2, keepdim=True)  # (l, b, 1, c)
        d = (v * u.sum(-1, keepdim=True)).sum(2, keepdim=True)
        if self.kind == "sign":
            return HiddenPair(u * a.sign().relu(), v * d.sign().relu())
        return HiddenPair(u * self._open(a, 0), v * self._open(d, 1))

    def _open(self, x: Tensor, side: int) -> Tensor:
        return (self.slope[side].view(-1, 1, 1, 1) * x).sigmoid()
