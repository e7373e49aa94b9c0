"""The gauge group: what g does to a pair, an adapter and a batch, and how to draw one.

    g: (r, r) in GL(r)    (u, v) -> (u g, v g^-T)    u g (v g^-T)^T = u v^T

In the stacked layout of a batch, u: (l, b, r, n) holds u^T of each layer, so that the action is g^T u and
g^-1 v on the last two dimensions. Every layer of every LoRA has its own g; padded columns are left alone.

What it is not: a choice of one point on the orbit (`canonical`, `alignment`) or a function that is constant
along it (`invariants`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import overload

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.core.lora import LoRA
from lorascope.core.low_rank import LowRank
from lorascope.errors import LayerError

__all__ = ["Gauge", "act", "act_stacked", "condition_numbers", "random_gauge", "random_gauges"]

Gauge = Tensor | Mapping[str, Tensor] | Sequence[Tensor]
"""g of a LowRank: (r, r); of a LoRA: layer -> (r, r); of a LoRABatch: (l, b, r, r) for each shape group."""


def act_stacked(
    g: Tensor,  # (..., r, r)
    u: Tensor,  # (..., r, n)
    v: Tensor,  # (..., r, m)
) -> tuple[Tensor, Tensor]:  # (..., r, n), (..., r, m)
    """Change the gauge of stacked factors: g^T u and g^-1 v, in the type of the factors."""
    if not u.shape[-2] == v.shape[-2] == g.shape[-1] == g.shape[-2]:
        raise LayerError(
            f"Changing a gauge: found g {tuple(g.shape)} for factors of rank {u.shape[-2]} and "
            f"{v.shape[-2]}, expected (..., r, r) with that r. Try: random_gauges(x) for g that fit x."
        )
    # half precision has no solver: the factors are brought to the type of g and back
    dtype = torch.promote_types(torch.promote_types(g.dtype, u.dtype), torch.float32)
    wide = g.to(dtype)
    moved_u = wide.mT @ u.to(dtype)
    moved_v = torch.linalg.solve(wide, v.to(dtype))
    return moved_u.to(u.dtype), moved_v.to(v.dtype)


@overload
def act(g: Gauge, x: LowRank) -> LowRank: ...
@overload
def act(g: Gauge, x: LoRA) -> LoRA: ...
@overload
def act(g: Gauge, x: LoRABatch) -> LoRABatch: ...
def act(g: Gauge, x: LowRank | LoRA | LoRABatch) -> LowRank | LoRA | LoRABatch:
    """Change the gauge: the same updates, other factors.

    Args:
        g: for a LowRank (r, r); for a LoRA a mapping from layer to (r, r), where a layer that is not
            named keeps its gauge; for a LoRABatch one (l, b, r, r) for each shape group.
        x: what g acts on.

    Raises:
        LayerError: g does not fit the layers or ranks of x.

    Source: arXiv 2410.04207, section 2.

    Example:
        >>> pair = LowRank(torch.eye(3)[:, :2], torch.eye(4)[:, :2])
        >>> moved = act(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), pair)
        >>> torch.allclose(moved.dense(), pair.dense()), torch.equal(moved.u, pair.u)
        (True, False)
    """
    if isinstance(x, LowRank):
        u, v = act_stacked(_tensor(g), x.u.mT, x.v.mT)
        return replace(x, u=u.mT, v=v.mT)
    if isinstance(x, LoRA):
        return _act_lora(g, x)
    if isinstance(g, Tensor | Mapping) or len(g) != len(x.groups):
        raise LayerError(
            f"Changing the gauge of a batch: expected one tensor (l, b, r, r) for each of its "
            f"{len(x.groups)} shape groups. Try: random_gauges(batch)."
        )
    pairs = [act_stacked(h, group.u, group.v) for h, group in zip(g, x.groups, strict=True)]
    return x.with_groups([GroupBatch(u, v) for u, v in pairs])


def random_gauge(
    rank: int,
    *,
    generator: torch.Generator | None = None,
    condition: float = 10.0,
    orthogonal: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    shape: tuple[int, ...] = (),
) -> Tensor:  # (*shape, r, r)
    """Draw g = q diag(s) p with Haar orthogonal q and p, and s log-uniform within the condition bound.

    Args:
        rank: r; 0 gives an empty matrix.
        generator: source of randomness, torch's global one by default.
        condition: the largest condition number of g.
        orthogonal: draw from O(r): all s are 1.
        dtype: type of g. The draw itself is made in float64.
        device: where g goes.
        shape: leading dimensions, one draw each.

    Example:
        >>> g = random_gauge(3, generator=torch.Generator().manual_seed(0), condition=5.0)
        >>> bool(torch.linalg.cond(g) <= 5.0)
        True
    """
    mask = torch.ones(*shape, rank, dtype=torch.bool)
    return _draw(mask, generator, condition, orthogonal).to(device=device, dtype=dtype)


@overload
def random_gauges(
    x: LoRA,
    *,
    generator: torch.Generator | None = ...,
    condition: float = ...,
    orthogonal: bool = ...,
) -> dict[str, Tensor]: ...
@overload
def random_gauges(
    x: LoRABatch,
    *,
    generator: torch.Generator | None = ...,
    condition: float = ...,
    orthogonal: bool = ...,
) -> tuple[Tensor, ...]: ...
def random_gauges(
    x: LoRA | LoRABatch,
    *,
    generator: torch.Generator | None = None,
    condition: float = 10.0,
    orthogonal: bool = False,
) -> dict[str, Tensor] | tuple[Tensor, ...]:
    """Draw an independent g for every layer of a LoRA or of each LoRA of a batch, to give to `act`.

    The g are float64 for float64 factors and float32 otherwise. In a batch of ragged ranks each g is a
    block of the layer's true rank beside an identity on the padded columns, which therefore stay zero.
    """
    kind = torch.promote_types(x.dtype if isinstance(x, LoRABatch) else _widest(x), torch.float32)
    if isinstance(x, LoRA):
        return {
            name: random_gauge(
                pair.rank,
                generator=generator,
                condition=condition,
                orthogonal=orthogonal,
                dtype=kind,
                device=pair.device,
            )
            for name, pair in x.layers.items()
        }
    masks = [x.rank_mask(number).cpu() for number in range(len(x.groups))]
    return tuple(
        _draw(mask, generator, condition, orthogonal).to(device=x.device, dtype=kind)
        for mask in masks
    )


def condition_numbers(g: Gauge) -> float:
    """The largest condition number among the matrices of a gauge, 1.0 for none."""
    if isinstance(g, Tensor):
        return float(torch.linalg.cond(g).max()) if g.numel() else 1.0
    parts = g.values() if isinstance(g, Mapping) else g
    return max((condition_numbers(part) for part in parts), default=1.0)


def _draw(
    mask: Tensor,  # (..., r) bool: which columns are real
    generator: torch.Generator | None,
    condition: float,
    orthogonal: bool,
) -> Tensor:  # (..., r, r) float64
    """q diag(s) p on the real columns, identity on the others."""
    q = _haar(mask, generator)
    if orthogonal:
        return q
    spread = torch.rand(mask.shape, generator=generator, dtype=torch.float64) - 0.5
    s = torch.where(mask, spread * torch.tensor(condition, dtype=torch.float64).log(), 0.0).exp()
    return q @ (s.unsqueeze(-1) * _haar(mask, generator))


def _haar(mask: Tensor, generator: torch.Generator | None) -> Tensor:  # (..., r) -> (..., r, r)
    """Haar orthogonal on the real columns (Mezzadri 2007: QR with R's diagonal made positive)."""
    rank = mask.shape[-1]
    normal = torch.randn(*mask.shape, rank, generator=generator, dtype=torch.float64)
    both = mask.unsqueeze(-1) & mask.unsqueeze(-2)
    # a block beside an identity: QR keeps the blocks apart
    q, r = torch.linalg.qr(torch.where(both, normal, torch.eye(rank, dtype=torch.float64)))
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype)
    haar: Tensor = q * signs.unsqueeze(-2)
    return haar


def _act_lora(g: Gauge, lora: LoRA) -> LoRA:
    if not isinstance(g, Mapping):
        raise LayerError(
            f"Changing the gauge of a LoRA: found {type(g).__name__}, expected a mapping from layer to "
            "(r, r). Try: random_gauges(lora)."
        )
    if unknown := [name for name in g if name not in lora.layers]:
        raise LayerError(
            f"Changing the gauge of a LoRA: it has no layer {unknown[0]!r}. "
            "Try: random_gauges(lora) for g that fit its layers."
        )
    layers = {n: act(g[n], lora.pair(n)) if n in g else x for n, x in lora.layers.items()}
    return replace(lora, layers=layers)


def _tensor(g: Gauge) -> Tensor:
    if not isinstance(g, Tensor):
        raise LayerError(
            f"Changing the gauge of one pair: found {type(g).__name__}, expected a tensor (r, r). "
            "Try: random_gauge(pair.rank)."
        )
    return g


def _widest(lora: LoRA) -> torch.dtype:
    double = any(pair.dtype == torch.float64 for pair in lora.layers.values())
    return torch.float64 if double else torch.float32
