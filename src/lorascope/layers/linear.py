"""Equivariant linear layers: all linear maps that commute with a change of gauge, and no other.

    u'_lbrc = sum_n u_lbrn phi_lnc        v'_lbrc = sum_m v_lbrm psi_lmc

arXiv 2410.04207, proposition 1: every linear GL(r)^L-equivariant map has this form. No mixing of layers, none
of u with v, no bias; what layers share is left to the invariant head.

Under g: phi^T (u g) = (phi^T u) g. The maps act on the rows, g on the columns.

Work and layout: one batched matrix product a shape group and side, (l, b r, n) (l, n, c), which reads the
factors once. Weights are stored as (l, n, c): with (l, c, n) the same product took 9 % longer. They are drawn
with variance 1 / n, as the paper's.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorascope.core.batch import GroupBatch
from lorascope.core.signature import Signature
from lorascope.errors import SignatureError
from lorascope.layers.hidden import HiddenPair
from lorascope.layers.matmul import batched_matmul

__all__ = ["EquivariantLinear", "HiddenLinear"]


class EquivariantLinear(nn.Module):
    """The first layer: from the factors of every shape group to one hidden pair of c channels.

    Parameters: c sum over layers of (n + m).

    Args:
        signature: the layers that are read.
        channels: c.

    Example:
        >>> from lorascope.core import LoRA, LowRank, collate
        >>> batch = collate([LoRA({"q": LowRank(torch.ones(8, 2), torch.ones(6, 2))})])
        >>> EquivariantLinear(batch.signature, 16)(batch.groups).u.shape
        torch.Size([1, 1, 2, 16])
    """

    def __init__(self, signature: Signature, channels: int) -> None:
        super().__init__()
        groups = signature.groups()
        self.channels = channels
        self.widths = tuple((group.n, group.m) for group in groups)
        self.phi = nn.ParameterList(_normal(len(g), g.n, channels) for g in groups)
        self.psi = nn.ParameterList(_normal(len(g), g.m, channels) for g in groups)

    def forward(self, groups: Sequence[GroupBatch]) -> HiddenPair:  # (l, b, r, c)
        """Raises SignatureError when the groups are of other sizes than the layer's."""
        found = tuple((group.n, group.m) for group in groups)
        if found != self.widths:
            raise SignatureError(
                f"Applying an equivariant layer: found shape groups {found}, expected {self.widths}. "
                "Try: collate(loras, signature=...) with the signature that the layer was built for."
            )
        u = [_apply(g.u, phi) for g, phi in zip(groups, self.phi, strict=True)]
        v = [_apply(g.v, psi) for g, psi in zip(groups, self.psi, strict=True)]
        return HiddenPair(torch.cat(u), torch.cat(v))


class HiddenLinear(nn.Module):
    """A later layer: from c to c' channels, separately for every layer and side.

    u'_lbrd = sum_c u_lbrc phi_lcd, and v' alike. Parameters: 2 l c c'.
    Under g: as `EquivariantLinear`.

    Example:
        >>> HiddenLinear(1, 4, 3)(HiddenPair(torch.ones(1, 5, 2, 4), torch.ones(1, 5, 2, 4))).u.shape
        torch.Size([1, 5, 2, 3])
    """

    def __init__(self, layers: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.phi = nn.Parameter(_normal(layers, channels, out_channels))
        self.psi = nn.Parameter(_normal(layers, channels, out_channels))

    def forward(self, pair: HiddenPair) -> HiddenPair:  # (l, b, r, c) -> (l, b, r, c')
        return HiddenPair(_apply(pair.u, self.phi), _apply(pair.v, self.psi))


def _apply(x: Tensor, weight: Tensor) -> Tensor:  # (l, b, r, n), (l, n, c) -> (l, b, r, c)
    layers, size, rank, _ = x.shape
    flat = batched_matmul(x.flatten(1, 2), weight)
    return flat.view(layers, size, rank, weight.shape[2])


def _normal(layers: int, width: int, channels: int) -> Tensor:  # (l, n, c)
    """N(0, 1 / n), the paper's initialisation."""
    return torch.randn(layers, width, channels) / math.sqrt(width)
