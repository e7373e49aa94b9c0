"""Cores: every layer's update seen from the principal directions of a collection, at unit norm.

    core_l  = p_l^T dW_l q_l / |dW_l|                              (c, c')
    left_l  = p_l^T dW_l dW_l^T p_l / |dW_l dW_l^T|                (c, c) symmetric
    right_l = q_l^T dW_l^T dW_l q_l / |dW_l dW_l^T|                (c', c') symmetric

with p_l (n, c) and q_l (m, c') the leading directions of the training updates' outputs and inputs. Inner
products of cores are cosines of updates, as far as the directions reach; those of `left` compare the spaces
that updates write to, whatever they read: a random A hides directions of input, not of output. All of it goes
through

    x = u^T p, y = v^T q and the roots of u^T u = r_u^T r_u, v^T v = r_v^T r_v, with d = r_u r_v^T:

    p^T dW q = x^T y,   p^T dW dW^T p = (r_v x)^T (r_v x),   |dW| = |d|,   |dW dW^T| = |d d^T|

so that no dense update is formed. What it is not: a model; `fusion` is one on these numbers.
"""

from typing import NamedTuple

import torch
from torch import nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.layers.one_read import one_read
from lorascope.models.rounding import rounded
from lorascope.models.views import Side, Views, make_views
from lorascope.symmetry.principal import principal_directions
from lorascope.symmetry.roots import Roots, gram_roots

__all__ = ["Cores", "Seen", "Views", "default_width"]

SAMPLE = 1024  # LoRAs that the directions are taken from
WIDEST = 48
DIRECTION_NUMBERS, CORE_NUMBERS = 4_700_000, 65_536
"""Most numbers in all p and q (19 MB), and in the cores of one LoRA (32 directions at the 64 layers of Stable
Diffusion 1.4)."""


class Seen(NamedTuple):
    """What one read of the factors of b LoRAs tells."""

    roots: Roots
    sides: list[Side]  # u^T p and v^T q, (l, b, r, c) and (l, b, r, d), a shape group


def default_width(signature: Signature) -> int:
    """The number of directions c that the limits on numbers allow, 4 at the least.

    Example:
        >>> from lorascope.core import LayerShape
        >>> default_width(Signature(tuple(LayerShape(f"q{i}", 1280, 1280) for i in range(64))))
        28
    """
    both = sum(layer.n + layer.m for layer in signature.layers)
    square = int((CORE_NUMBERS / len(signature)) ** 0.5)
    return max(4, min(WIDEST, DIRECTION_NUMBERS // both, square))


class Cores(nn.Module):
    """Cores and their left and right squares for a batch.

    Under g: unchanged. u^T p goes with (v g^-T)^T q, s with t: each product is a function of u v^T alone.
    Layers that are missing or zero are zero; the others share the norm of the whole.

    Example:
        >>> cores = Cores(batch.signature, 16)
        >>> cores.fit(batch)
        >>> cores(batch).core.shape == (batch.size, cores.widths[0])
        True
    """

    def __init__(self, signature: Signature, width: int) -> None:
        super().__init__()
        of_layers: dict[str, list[int]] = {name: [] for name in Views._fields}
        for index, group in enumerate(signature.groups()):
            c, d = min(width, group.n), min(width, group.m)
            self.register_buffer(f"p_{index}", torch.zeros(len(group), group.n, c))
            self.register_buffer(f"q_{index}", torch.zeros(len(group), group.m, d))
            numbers = (c * d, c * (c + 1) // 2, d * (d + 1) // 2)
            for of_view, count in zip(of_layers.values(), numbers, strict=True):
                of_view += [count] * len(group)
        # how many numbers of each view every layer has, layers as in a batch
        self.of_layers = of_layers
        self.widths = tuple(map(sum, of_layers.values()))

    def fit(self, batch: LoRABatch) -> None:
        """Takes the directions from the first LoRAs of a batch."""
        numbers = sum(directions.numel() for directions in self.buffers())
        for index, group in enumerate(batch.select(slice(0, SAMPLE)).groups):
            for name, one, other in (("p", group.u, group.v), ("q", group.v, group.u)):
                buffer = self.get_buffer(f"{name}_{index}")
                rows = principal_directions(one, other, buffer.shape[2])
                buffer.copy_(rounded(rows.mT, numbers))

    @torch.no_grad()
    def forward(self, batch: LoRABatch) -> Views:
        """The views of the LoRAs of a batch, in the type of the directions. No gradient goes through them."""
        return self.views(self.read(batch))

    @torch.no_grad()
    def read(self, batch: LoRABatch) -> Seen:
        """All that is read of the factors: their roots, and what they are along the directions."""
        factors = [g.u for g in batch.groups] + [g.v for g in batch.groups]
        count = len(batch.groups)
        names = [f"{name}_{index}" for name in "pq" for index in range(count)]
        found = one_read(factors, [self.get_buffer(name) for name in names])
        products = [read.product for read in found]
        roots = gram_roots(batch, [read.gram for read in found])
        return Seen(roots, list(zip(products[:count], products[count:], strict=True)))

    def views(self, seen: Seen) -> Views:
        """The views of LoRAs whose factors were read."""
        return make_views(seen.roots, seen.sides)
