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

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.layers.matmul import batched_matmul
from lorascope.layers.one_read import one_read
from lorascope.models.rounding import rounded
from lorascope.symmetry.principal import principal_directions
from lorascope.symmetry.roots import Roots, gram_roots

__all__ = ["Cores", "Seen", "Views", "default_width"]

SAMPLE = 1024  # LoRAs that the directions are taken from
WIDEST = 48
BLOCK_NUMBERS = (
    2**19
)  # of cores made at once on a CPU: they stay in the cache until they are in place
DIRECTION_NUMBERS, CORE_NUMBERS = 4_700_000, 65_536
"""Most numbers in all p and q (19 MB), and in the cores of one LoRA (32 directions at the 64 layers of Stable
Diffusion 1.4)."""


class Views(NamedTuple):
    """What is seen of b LoRAs, each row of norm at most 1 over the layers that are there."""

    core: Tensor  # (b, sum of c c')
    left: Tensor  # (b, sum of c (c + 1) / 2)
    right: Tensor  # (b, sum of c' (c' + 1) / 2)


class Seen(NamedTuple):
    """What one read of the factors of b LoRAs tells."""

    roots: Roots
    sides: list[
        tuple[Tensor, Tensor]
    ]  # u^T p and v^T q, (l, b, r, c) and (l, b, r, d), a shape group


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

    @torch.no_grad()
    def views(self, seen: Seen) -> Views:
        """The views of LoRAs whose factors were read: neighbouring groups of the same c and d at once."""
        weights = _weigh(seen.roots, self.get_buffer("p_0").dtype)
        views, start = [], 0
        for _, alike in groupby(seen.sides, lambda side: (side[0].shape[3], side[1].shape[3])):
            x, y = (torch.cat(column) for column in zip(*alike, strict=True))
            places = slice(start, start + len(x))
            views.append(_views(x, y, Weights(*(part[places] for part in weights))))
            start += len(x)
        if len(views) == 1:
            return views[0]
        return Views(*(torch.cat(column, 1) for column in zip(*views, strict=True)))


class Weights(NamedTuple):
    """What makes products of projections to views of norm 1, by layer and LoRA."""

    inverse: Tensor  # (l, b, 1, 1)  1 / |dW|, divided by the root of the number of layers there
    left: Tensor  # (l, b, r, r)  r_v, scaled so that (r_v x)^T (r_v x) is the left view
    right: Tensor  # (l, b, r, r)  r_u, scaled likewise


def _weigh(roots: Roots, dtype: torch.dtype) -> Weights:
    """Weights in a type; 0 where a layer has no update."""
    joined = roots.joined
    square = joined.square().sum((-1, -2))
    fourth = (joined @ joined.mT).square().sum((-1, -2))
    # an update that cancels up to rounding is zero: nothing of its directions is known
    noise = (8 * torch.finfo(dtype).eps * joined.shape[-1]) ** 2
    real = square > noise * roots.u.square().sum((-1, -2)) * roots.v.square().sum((-1, -2))
    share = real.sum(0).clamp(min=1).rsqrt()  # of the whole norm, for each layer that is there
    inverse = torch.where(real, square.rsqrt(), 0.0) * share
    root = (torch.where(real, fourth.rsqrt(), 0.0) * share).sqrt()[..., None, None]
    return Weights(
        inverse[..., None, None].to(dtype), (roots.v * root).to(dtype), (roots.u * root).to(dtype)
    )


def _views(
    x: Tensor,  # (l, b, r, c)
    y: Tensor,  # (l, b, r, d)
    weights: Weights,
) -> Views:
    """Views of layers with the same numbers of directions, written block by block of LoRAs."""
    left, right = _turn(weights.left, x), _turn(weights.right, y)
    x, y, left, right = (
        z.transpose(0, 1).contiguous() for z in (x * weights.inverse, y, left, right)
    )
    size, layers, _, c = x.shape
    core = x.new_empty(size, layers, c, y.shape[3])
    squares = [(z, _Triangle(z.shape[3], z)) for z in (left, right)]
    halves = [x.new_empty(size, layers, triangle.width) for _, triangle in squares]
    step = max(1, BLOCK_NUMBERS // core[:1].numel()) if x.device.type == "cpu" else max(1, size)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        torch.bmm(x[rows].flatten(0, 1).mT, y[rows].flatten(0, 1), out=core[rows].flatten(0, 1))
        for half, (z, triangle) in zip(halves, squares, strict=True):
            triangle.write(z[rows].flatten(0, 1), half[rows].flatten(0, 1))
    return Views(core.flatten(1), halves[0].flatten(1), halves[1].flatten(1))


def _turn(a: Tensor, x: Tensor) -> Tensor:  # (l, b, r, r), (l, b, r, c) -> (l, b, r, c)
    # torch.matmul and torch.bmm take four times as long for matrices this small
    return batched_matmul(a.flatten(0, 1), x.flatten(0, 1)).view(x.shape)


class _Triangle:
    """The upper triangle of z^T z, scaled so that inner products stay those of the whole matrix."""

    def __init__(self, c: int, like: Tensor) -> None:
        i, j = torch.triu_indices(c, c, device=like.device)
        self.places = i * c + j
        self.scale = torch.where(i == j, 1.0, 2.0**0.5).to(like.dtype)
        self.width = len(i)

    def write(self, z: Tensor, out: Tensor) -> None:  # (k, r, c), (k, c (c + 1) / 2)
        torch.index_select((z.mT @ z).flatten(1), 1, self.places, out=out)
        out.mul_(self.scale)
