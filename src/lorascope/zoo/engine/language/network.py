"""The losses of a group of adapters on one batch: embedding, blocks, head; and who compiles them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.language.causal_lm import Dropout, Pair, View, block_forward, head_losses
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.layout import Factors

__all__ = [
    "EAGER",
    "PADDING",
    "SHARED",
    "Kernels",
    "answer_losses",
    "causal_views",
    "pairs_by_block",
    "visible",
]

PADDING, SHARED = -2, -1  # segments: of no one's tokens, and of those that all in the row may see


class Kernels(NamedTuple):
    """The two functions that do the work, plain or compiled."""

    block: Callable[..., Tensor]
    head: Callable[..., Tensor]
    static: bool = False  # compiled for fixed shapes: short groups are padded


EAGER = Kernels(block_forward, head_losses)


@dataclass(frozen=True, eq=False)
class Views:
    """What the tokens see in all blocks but the last, and in the last."""

    inner: View
    last: View


def split_name(layer: str) -> tuple[int, str]:
    """Block index and module of a layer: 'model.layers.3.self_attn.q_proj' -> (3, 'q_proj')."""
    parts = layer.split(".")
    return int(parts[2]), parts[-1]


def pairs_by_block(factors: Mapping[str, Factors], blocks: int) -> list[dict[str, Pair]]:
    """Sort factors (layer -> A, B, gain) by transformer block."""
    sorted_pairs: list[dict[str, Pair]] = [{} for _ in range(blocks)]
    for layer, (A, B, gain) in factors.items():
        index, module = split_name(layer)
        sorted_pairs[index][module] = Pair(A, B, gain)
    return sorted_pairs


def noise_by_block(noise: Mapping[str, Tensor], blocks: int) -> list[dict[str, Tensor]]:
    """Sort the dropout bytes of each layer by transformer block."""
    sorted_noise: list[dict[str, Tensor]] = [{} for _ in range(blocks)]
    for layer, values in noise.items():
        index, module = split_name(layer)
        sorted_noise[index][module] = values
    return sorted_noise


def views(base: FrozenBase, positions: Tensor, mask: Tensor, places: Tensor) -> Views:
    """Views of rows whose last block is needed at some places only.

    positions: (s, b, t) int64, mask: (s, b, t, t) bool; s and b may be 1; places: (s, b, q).
    """
    cos, sin = base.rope(positions)
    inner = View(cos, sin, cos, sin, mask)
    query_cos, query_sin = base.rope(positions.expand(*places.shape[:2], -1).gather(2, places))
    slots = torch.arange(places.shape[0], device=places.device)[:, None, None]
    rows = torch.arange(places.shape[1], device=places.device)[None, :, None]
    seen = mask.expand(*places.shape[:2], -1, -1)[slots, rows, places]
    return Views(inner, View(cos, sin, query_cos, query_sin, seen, places))


def causal_views(base: FrozenBase, length: int, places: Tensor) -> Views:
    """Views of plain rows: token i sees 0..i. places: (s, b, q)."""
    mask = torch.ones(length, length, dtype=torch.bool, device=places.device).tril()
    positions = torch.arange(length, device=places.device)
    return views(base, positions[None, None], mask[None, None], places)


def visible(segments: Tensor) -> Tensor:
    """What the tokens of rows see: the earlier of their own segment, and of the shared one.

    segments: (..., t) int64 -> (..., t, t) bool.
    """
    length = segments.shape[-1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    query, key = segments[..., :, None], segments[..., None, :]
    return earlier & ((query == key) | (key == SHARED))


def answer_losses(
    base: FrozenBase,
    kernels: Kernels,
    tokens: Tensor,  # (s, b, t)
    labels: Tensor,  # (s, b, q, w)
    views: Views,
    pairs: list[dict[str, Pair]],
    dropout: list[Dropout] | None = None,
) -> Tensor:
    """Cross entropy of the w labels at each place of each slot: (s, b, q, w)."""
    x = F.embedding(tokens, base.embedding)
    last = len(base.blocks) - 1
    for i, block in enumerate(base.blocks):
        view = views.last if i == last else views.inner
        noise = None if dropout is None else dropout[i]
        x = kernels.block(x, block, pairs[i], view, noise, base.heads)
    return kernels.head(x, base.norm, base.head, labels, base.heads.epsilon)
