"""Cores: every layer's update seen from the principal directions of a collection, at unit norm.

    core_l  = p_l^T dW_l q_l / |dW_l|                              (c, c')
    left_l  = p_l^T dW_l dW_l^T p_l / |dW_l dW_l^T|                (c, c) symmetric
    right_l = q_l^T dW_l^T dW_l q_l / |dW_l dW_l^T|                (c', c') symmetric

with p_l (n, c) and q_l (m, c') the leading directions of the training updates' outputs and inputs. Inner
products of cores are cosines of updates, as far as the directions reach; those of `left` compare the spaces
that updates write to, whatever they read: a random A hides directions of input, not of output. All of it goes
through

    u^T p, v^T q, s = u^T u, t = v^T v:   dW dW^T = u t u^T,   |dW|^2 = tr(s t),   |dW dW^T|^2 = tr(s t s t)

so that no dense update is formed. What it is not: a model; `fusion` is one on these numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.layers.matmul import batched_matmul
from lorascope.symmetry.principal import principal_directions

__all__ = ["Cores", "Views", "default_width"]

SAMPLE = 1024  # LoRAs that the directions are taken from
WIDEST = 48
DIRECTION_NUMBERS, CORE_NUMBERS = 4_700_000, 65_536
"""Most numbers in all p and q (19 MB), and in the cores of one LoRA (32 directions at the 64 layers of Stable
Diffusion 1.4)."""


class Views(NamedTuple):
    """What is seen of b LoRAs, each row of norm at most 1 over the layers that are there."""

    core: Tensor  # (b, sum of c c')
    left: Tensor  # (b, sum of c (c + 1) / 2)
    right: Tensor  # (b, sum of c' (c' + 1) / 2)


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
        core = left = right = 0
        for index, group in enumerate(signature.groups()):
            c, d = min(width, group.n), min(width, group.m)
            self.register_buffer(f"p_{index}", torch.zeros(len(group), group.n, c))
            self.register_buffer(f"q_{index}", torch.zeros(len(group), group.m, d))
            core += len(group) * c * d
            left += len(group) * c * (c + 1) // 2
            right += len(group) * d * (d + 1) // 2
        self.widths = (core, left, right)

    def fit(self, batch: LoRABatch) -> None:
        """Takes the directions from the first LoRAs of a batch."""
        for index, group in enumerate(batch.select(slice(0, SAMPLE)).groups):
            for name, one, other in (("p", group.u, group.v), ("q", group.v, group.u)):
                buffer = self.get_buffer(f"{name}_{index}")
                rows = principal_directions(one, other, buffer.shape[2])
                buffer.copy_(rows.mT)

    def forward(self, batch: LoRABatch) -> Views:
        """The views of the LoRAs of a batch, in the type of the directions."""
        batch = batch.to(dtype=self.get_buffer("p_0").dtype)
        parts, there = [], batch.ranks.new_zeros(batch.size)
        for index, group in enumerate(batch.groups):
            p, q = self.get_buffer(f"p_{index}"), self.get_buffer(f"q_{index}")
            core, left, right, real = _views(group.u, group.v, p, q)
            there = there + real.sum(0)
            parts.append((core, left, right))
        scale = there.clamp(min=1).to(parts[0][0].dtype).rsqrt().unsqueeze(1)
        views = (torch.cat(column, 1) * scale for column in zip(*parts, strict=True))
        return Views(*views)


def _views(
    u: Tensor,  # (l, b, r, n)
    v: Tensor,  # (l, b, r, m)
    p: Tensor,  # (l, n, c)
    q: Tensor,  # (l, m, d)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # (b, l c d), (b, l c (c + 1) / 2), ..., (l, b) bool
    """Views of the layers of one shape, and which layers have an update."""
    x, y = _project(u, p), _project(v, q)
    s, t = u @ u.mT, v @ v.mT
    square = (s * t).sum((-1, -2))
    turned = s @ t
    fourth = (turned * turned.mT).sum((-1, -2))
    # an update that cancels up to rounding is zero: nothing of its directions is known
    noise = 8 * torch.finfo(s.dtype).eps * s.shape[-1]
    size = s.diagonal(dim1=-2, dim2=-1).sum(-1) * t.diagonal(dim1=-2, dim2=-1).sum(-1)
    real = square > noise * size
    inverse = torch.where(real, square.clamp(min=torch.finfo(s.dtype).tiny).rsqrt(), 0.0)
    inverse_square = torch.where(real & (fourth > 0), fourth.abs().rsqrt(), 0.0)
    core = (x * inverse[..., None, None]).mT @ y
    left = x.mT @ (t * inverse_square[..., None, None] @ x)
    right = y.mT @ (s * inverse_square[..., None, None] @ y)
    rows = [z.transpose(0, 1).flatten(1) for z in (core, _triangle(left), _triangle(right))]
    return rows[0], rows[1], rows[2], real


def _project(x: Tensor, p: Tensor) -> Tensor:  # (l, b, r, n), (l, n, c) -> (l, b, r, c)
    return batched_matmul(x.flatten(1, 2), p).view(*x.shape[:3], -1)


def _triangle(x: Tensor) -> Tensor:  # (..., c, c) -> (..., c (c + 1) / 2)
    """The upper triangle of symmetric matrices, scaled so that inner products stay."""
    i, j = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    return x[..., i, j] * torch.where(i == j, 1.0, 2.0**0.5).to(x.dtype)
