"""The functional forward of a frozen Qwen2- or Llama-style transformer, for many adapters at once.

Activations are the tokens of all rows without padding, (k, d); `ragged.py` puts them into padded rows
(n, t, d) and back. Each of s slots has its own adapter and n / s of the rows. The base's weights are
frozen, fused and shared, and multiply tokens alone; what wants rows is attention, and the adapters, which
are batched products over the slots:

    y = x @ W.T + bias + (drop(x) @ A.T) @ (factor * B).T

and with DoRA, whose rows have gains (`dora.py`):

    y = x @ W.T + bias + gain * drop(x) @ W.T + (1 + gain) * (drop(x) @ A.T) @ (factor * B).T

The frozen matrices may have a coarser type than all the rest: then these products alone are rounded. The
residual stream and the logits must not be: see `opening.py`.

What is not here: training (`fit.py`), questions (`evaluate.py`), generation.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.language.frozen_base import Block, Frozen, FrozenBase, Heads
from lorascope.zoo.engine.language.ragged import Ragged

__all__ = [
    "Asked",
    "Block",
    "Dropout",
    "FrozenBase",
    "Heads",
    "Pair",
    "View",
    "block_forward",
    "head_losses",
]

ALWAYS = ("k_proj", "v_proj")  # modules that all tokens pass through


class Pair(NamedTuple):
    """The adapters of one module in every slot, the scale folded into B."""

    A: Tensor  # (s, r, m)
    B: Tensor  # (s, o, r)
    gain: Tensor | None = None  # (s, o), of DoRA


class Dropout(NamedTuple):
    """Random bytes of each adapted module; the input passes where a byte reaches the threshold."""

    noise: Mapping[str, Tensor]  # module -> (k, m) uint8
    threshold: Tensor  # (k, 1) uint8
    scale: Tensor  # (k, 1): 1 / (1 - p)

    def of(self, some: Ragged) -> "Dropout":
        """Of some of the tokens, for the modules that these alone pass through."""
        noise = {name: some.unpad(z) for name, z in self.noise.items() if name not in ALWAYS}
        return Dropout(noise, some.unpad(self.threshold), some.unpad(self.scale))


class Asked(NamedTuple):
    """The tokens that the last block carries on, k' of k."""

    some: Ragged  # among the list of all
    rows: Ragged  # in rows (n, q)
    cos: Tensor  # (n, q, h / 2); n may be 1
    sin: Tensor  # (n, q, h / 2)


class View(NamedTuple):
    """Where k tokens stand and what they see."""

    rows: Ragged  # in rows (n, t)
    cos: Tensor  # (n, t, h / 2); n may be 1
    sin: Tensor  # (n, t, h / 2)
    mask: Tensor  # (n, q, t) bool: may query q see token t; n may be 1
    asked: Asked | None = None  # the queries; None: all tokens


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm, at least in float32. x: (..., d) -> (..., d)."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + bias, multiplied in the weight's type, whatever x has. x: (..., m) -> (..., n)."""
    if x.dtype == weight.dtype:
        return F.linear(x, weight, bias)
    y = F.linear(x.to(weight.dtype), weight).to(x.dtype)
    return y if bias is None else y + bias


class Adapters(NamedTuple):
    """The adapters of a block and the tokens that pass through them."""

    pairs: Mapping[str, Pair]
    dropout: Dropout | None
    rows: Ragged

    def __call__(self, y: Tensor, x: Tensor, module: Frozen) -> Tensor:
        """What a module gives with its adapters, from what it gives without, y.

        y: (k, o), x: (k, m) -> (k, o).
        """
        if module.name not in self.pairs:
            return y
        return self.rows.unpad(self.in_rows(self.rows.pad(y), x, module))

    def in_rows(self, y: Tensor, x: Tensor, module: Frozen) -> Tensor:
        """The same for y in rows: (n, t, *o), x: (k, m) -> (n, t, *o)."""
        if module.name not in self.pairs:
            return y
        A, B, gain = self.pairs[module.name]
        if self.dropout is not None:
            keep = self.dropout.noise[module.name] >= self.dropout.threshold
            x = torch.where(keep, x * self.dropout.scale, 0)
        slots = self.rows.pad(x).view(len(A), -1, x.shape[1])
        update = slots @ A.mT @ B.mT  # (s, n t / s, o)
        if gain is not None:
            if self.dropout is not None:
                plain = self.rows.pad(_product(x, module.weight))
            else:
                plain = y.flatten(2) if module.bias is None else y.flatten(2) - module.bias
            update = update + gain[:, None] * (plain.reshape(update.shape) + update)
        return y + update.view(y.shape)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding. x: (n, t, heads, 2, h / 2); cos and sin: (n, t, h / 2)."""
    cos, sin = cos[:, :, None, None], torch.stack((-sin, sin), 2)[:, :, None]
    return x * cos + x.flip(3) * sin


class _Scores(torch.autograd.Function):
    """q k^T, whose derivative by k comes in the order of k. q: (z, i, h), k: (z, j, h) -> (z, i, j)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return torch.bmm(q, k.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        q, k = ctx.saved_tensors
        return torch.bmm(gradient, k), torch.bmm(gradient.mT, q)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Plain attention; the query heads of one key head share one product.

    q: (n, q, heads, 2, h / 2); k, v: (n, t, key heads, 2, h / 2); mask: (n, q, t) -> (n, q, heads h).
    bf16 `scaled_dot_product_attention` is many times slower than this backwards at short lengths.
    """
    rows, tokens, key_heads, _, half = k.shape
    queries, repeat, size = q.shape[1], q.shape[2] // key_heads, 2 * half
    q = q.transpose(1, 2).reshape(rows * key_heads, repeat * queries, size)
    k, v = (x.transpose(1, 2).reshape(rows * key_heads, tokens, size) for x in (k, v))
    scores: Tensor = _Scores.apply(q, k)  # type: ignore[no-untyped-call]
    scores = scores.view(rows, key_heads, repeat, queries, tokens)
    wide = scores.to(torch.promote_types(q.dtype, torch.float32)) * size**-0.5
    wide = wide.masked_fill(~mask[:, None, None], float("-inf"))
    shares = torch.softmax(wide, -1).to(v.dtype)
    mixed = torch.bmm(shares.view(rows * key_heads, repeat * queries, tokens), v)
    return mixed.view(rows, key_heads * repeat, queries, size).transpose(1, 2)


def block_forward(
    x: Tensor,
    block: Block,
    pairs: Mapping[str, Pair],
    view: View,
    dropout: Dropout | None,
    heads: Heads,
) -> Tensor:
    """One transformer block of every slot. x: (k, d) -> (k', d).

    With `view.asked` only these are carried on (the last block needs no others); keys and
    values are still computed of all.
    """
    every = some = Adapters(pairs, dropout, view.rows)
    h = late = rms_norm(x, block.input_norm, heads.epsilon)
    cos, sin = view.cos, view.sin
    if view.asked is not None:
        chosen, rows, cos, sin = view.asked
        x, late = chosen.unpad(x), chosen.unpad(h)
        some = Adapters(pairs, None if dropout is None else dropout.of(chosen), rows)
    q, k, v = _project(h, late, block, view, heads)
    q = _rotate(some.in_rows(q, late, block.part("q_proj", heads)), cos, sin)
    k = _rotate(every.in_rows(k, h, block.part("k_proj", heads)), view.cos, view.sin)
    v = every.in_rows(v, h, block.part("v_proj", heads))
    mixed = some.rows.unpad(_attend(q, k, v, view.mask)).flatten(1)
    x = x + some(_product(mixed, block.out), mixed, block.part("o_proj", heads))
    return x + _mlp(x, block, some, heads)


def _project(
    h: Tensor, late: Tensor, block: Block, view: View, heads: Heads
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of `late`, keys and values of `h`; one product where they are the same.

    h: (k, d), late: (k', d) -> in rows, heads in halves, (n, q, heads, 2, h / 2) and two (n, t, ...).
    """

    def in_heads(y: Tensor, rows: Ragged) -> Tensor:
        return rows.pad(y.view(len(y), -1, 2, heads.size // 2))

    if view.asked is None:
        y = in_heads(_product(h, block.qkv, block.qkv_bias), view.rows)
        q, k, v = torch.split(y, [heads.query, heads.key_value, heads.key_value], 2)
        return q, k, v
    query = heads.query * heads.size
    bias, others = (None, None) if block.qkv_bias is None else block.qkv_bias.tensor_split([query])
    q = in_heads(_product(late, block.qkv[:query], bias), view.asked.rows)
    k, v = in_heads(_product(h, block.qkv[query:], others), view.rows).chunk(2, 2)
    return q, k, v


def _mlp(x: Tensor, block: Block, adapters: Adapters, heads: Heads) -> Tensor:
    h = rms_norm(x, block.mlp_norm, heads.epsilon)
    gate, up = _product(h, block.gate_up).chunk(2, -1)
    gate = adapters(gate, h, block.part("gate_proj", heads))
    up = adapters(up, h, block.part("up_proj", heads))
    inner = F.silu(gate) * up
    return adapters(_product(inner, block.down), inner, block.part("down_proj", heads))


def head_losses(x: Tensor, norm: Tensor, head: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Cross entropy of the labels of each token, w of them.

    x: (k, d), labels: (k, w) -> (k, w).
    """
    logits = F.linear(rms_norm(x, norm, epsilon), head)
    wide = logits.to(torch.promote_types(x.dtype, torch.float32))
    return wide.logsumexp(-1, keepdim=True) - wide.gather(-1, labels)
