"""The losses of a group of adapters on one batch: embedding, blocks, head; and who computes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.language.causal_lm import (
    Asked,
    Dropout,
    Pair,
    View,
    block_forward,
    head_losses,
)
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.ragged import Ragged
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


Pairs = Mapping[str, Pair]


class Kernels(NamedTuple):
    """The two functions that do the work: plain, or in C."""

    block: Callable[[Tensor, FrozenBase, int, Pairs, View, Dropout | None], Tensor]
    head: Callable[[Tensor, FrozenBase, Tensor], Tensor]


def plain_block(
    x: Tensor, base: FrozenBase, number: int, pairs: Pairs, view: View, dropout: Dropout | None
) -> Tensor:
    """One block of a base, by its number. x: (k, d) -> (k', d)."""
    return block_forward(x, base.blocks[number], pairs, view, dropout, base.heads)


def plain_head(x: Tensor, base: FrozenBase, labels: Tensor) -> Tensor:
    """Cross entropy of the labels of each token. x: (k, d), labels: (k, w) -> (k, w)."""
    return head_losses(x, base.norm, base.head, labels, base.heads.epsilon)


EAGER = Kernels(plain_block, plain_head)


@dataclass(frozen=True, eq=False)
class Views:
    """What the tokens see in all blocks but the last, and in the last."""

    inner: View
    last: View
    asked: Ragged  # what the last one carries on, in rows (n, q)


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


def views(
    base: FrozenBase,
    rows: Ragged,  # the tokens in rows (n, t)
    positions: Tensor,  # (n, t) int64; n may be 1
    mask: Tensor,  # (n, t, t) bool; n may be 1
    asked: Ragged,  # what is asked, in rows (n, q)
    places: Tensor,  # (n, q): where in its row each stands, none twice
) -> Views:
    """Views of rows whose last block is needed at some places only."""
    cos, sin = base.rope(positions)
    at = torch.arange(len(places), device=places.device)[:, None], places
    query_cos, query_sin, seen = (
        part.expand(len(places), *part.shape[1:])[at] for part in (cos, sin, mask)
    )
    queries = Asked(asked.within(rows, rows.token[at]), asked, query_cos, query_sin)
    return Views(View(rows, cos, sin, mask), View(rows, cos, sin, seen, queries), asked)


def causal_views(base: FrozenBase, rows: Ragged, asked: Ragged, places: Tensor) -> Views:
    """Views of plain rows: token i sees 0..i. places: (n, q)."""
    length = rows.token.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool, device=places.device).tril()
    positions = torch.arange(length, device=places.device)
    return views(base, rows, positions[None], mask[None], asked, places)


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
    tokens: Tensor,  # (n, t)
    labels: Tensor,  # (n, q, w)
    views: Views,
    pairs: list[dict[str, Pair]],
    dropout: list[Dropout] | None = None,
) -> Tensor:
    """Cross entropy of the w labels at each place of each row, 0 where nothing is asked: (n, q, w)."""
    x = F.embedding(tokens[views.inner.rows.places.unbind()], base.embedding)
    last = len(base.blocks) - 1
    for i in range(len(base.blocks)):
        view = views.last if i == last else views.inner
        noise = None if dropout is None else dropout[i]
        x = kernels.block(x, base, i, pairs[i], view, noise)
    chosen = labels[views.asked.places.unbind()]
    return views.asked.pad(kernels.head(x, base, chosen))
