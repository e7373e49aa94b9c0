"""Equivariant linear layers: all linear maps that commute with a change of gauge, and no other.

    u'_lbrc = sum_n u_lbrn phi_lnc        v'_lbrc = sum_m v_lbrm psi_lmc

arXiv 2410.04207, proposition 1: every linear GL(r)^L-equivariant map has this form. No mixing of layers, none
of u with v, no bias; what layers share is left to the invariant head.

Under g: phi^T (u g) = (phi^T u) g. The maps act on the rows, g on the columns.

Work and layout: one batched matrix product a shape group and side, (l, b r, n) (l, n, c), which reads the
factors once; without gradients it writes straight into the stacked pair. Weights have the shape (l, n, c). In
memory they lie in that order, and on a CPU in 16 bits as (l, c, n), the order that oneDNN's 16-bit kernels
gather anyway: 8.2 ms against 8.5-9.0 for the first layer of 147 MB, where float32 loses 4-9 % by it. They are
drawn with variance 1 / n, as the paper's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Self

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
        u = _stacked([group.u for group in groups], list(self.phi))
        v = _stacked([group.v for group in groups], list(self.psi))
        return HiddenPair(u, v)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """A change of type or device also chooses the order of the weights in memory; no value changes."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for weight in self.parameters():
            weight.data = _in_order(weight.data)
        return self


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
        return HiddenPair(_mapped(pair.u, self.phi), _mapped(pair.v, self.psi))


def _stacked(xs: list[Tensor], weights: list[Tensor]) -> Tensor:  # (l, b, r, n), (l, n, c) each
    """The maps of all groups, one after another along the layers: (l, b, r, c)."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled(xs[0].device.type):
        return torch.cat([_mapped(x, weight) for x, weight in zip(xs, weights, strict=True)])
    _, size, rank, _ = xs[0].shape
    out = xs[0].new_empty(sum(x.shape[0] for x in xs), size, rank, weights[0].shape[2])
    parts = torch.split(out.flatten(1, 2), [x.shape[0] for x in xs])
    for x, weight, part in zip(xs, weights, parts, strict=True):
        batched_matmul(x.flatten(1, 2), weight, out=part)
    return out


def _mapped(x: Tensor, weight: Tensor) -> Tensor:  # (l, b, r, n), (l, n, c) -> (l, b, r, c)
    layers, size, rank, _ = x.shape
    flat = batched_matmul(x.flatten(1, 2), weight)
    return flat.view(layers, size, rank, weight.shape[2])


def _in_order(weight: Tensor) -> Tensor:  # (l, n, c)
    """The same weights in the order in memory that is fastest for their type and device."""
    if weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float16):
        return weight.mT.contiguous().mT
    return weight.contiguous()


def _normal(layers: int, width: int, channels: int) -> Tensor:  # (l, n, c)
    """N(0, 1 / n), the paper's initialisation."""
    return torch.randn(layers, width, channels) / math.sqrt(width)
