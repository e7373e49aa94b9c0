"""`HiddenPair`: what equivariant layers hand on, one narrow pair for every layer of every LoRA.

    u, v: (l, b, r, c)

All shape groups have become one: every layer has the same number of channels c, so that later layers need
one matrix product for the whole network. Layers stand in group order, `LoRABatch.layer_order` leads back to
the signature's. A pair of widths n and m is the special case of a group before the first linear layer.
"""

from typing import NamedTuple

from torch import Tensor

__all__ = ["HiddenPair"]


class HiddenPair(NamedTuple):
    """A factor pair with c channels for every layer. Under g: (g^T u, g^-1 v) on the dimension r."""

    u: Tensor  # (l, b, r, c)
    v: Tensor  # (l, b, r, c)
