"""The functional forward of a frozen Qwen2- or Llama-style transformer, for many adapters at once.

Activations are (s, b, t, d): s slots, each with its own adapter, b rows of t tokens. The base's
weights are frozen, fused and shared; the adapters are batched products over the slots:

    y = x @ W.T + bias + (drop(x) @ A.T) @ (factor * B).T

and with DoRA, whose rows have gains (`dora.py`):

    y = x @ W.T + bias + gain * drop(x) @ W.T + (1 + gain) * (drop(x) @ A.T) @ (factor * B).T

The frozen matrices may have a coarser type than all the rest: then these products alone are rounded. The
residual stream and the logits must not be: see `opening.py`.

What is not here: training (`fit.py`), questions (`evaluate.py`), generation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.language.frozen_base import Block, Frozen, FrozenBase, Heads

__all__ = [
    "Block",
    "Dropout",
    "FrozenBase",
    "Heads",
    "Pair",
    "View",
    "block_forward",
    "head_losses",
]


class Pair(NamedTuple):
    """The adapters of one module in every slot, the scale folded into B."""

    A: Tensor  # (s, r, m)
    B: Tensor  # (s, n, r)
    gain: Tensor | None = None  # (s, n), of DoRA


class Dropout(NamedTuple):
    """Random bytes of each adapted module; the input passes where a byte reaches the threshold."""

    noise: Mapping[str, Tensor]  # module -> (s, b, t, m) uint8
    threshold: Tensor  # (s, 1, 1, 1) uint8
    scale: Tensor  # (s, 1, 1, 1): 1 / (1 - p)


class View(NamedTuple):
    """Where the tokens stand and what they see; dimensions s and b may be 1 (shared)."""

    key_cos: Tensor  # (s, b, t, h / 2)
    key_sin: Tensor  # (s, b, t, h / 2)
    query_cos: Tensor  # (s, b, q, h / 2)
    query_sin: Tensor  # (s, b, q, h / 2)
    mask: Tensor  # (s, b, q, t) bool: may query q see token t
    select: Tensor | None = None  # (s, b, q): the queries' places among the tokens; None: all


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


def _adapted(
    y: Tensor,  # (s, b, t, n)
    x: Tensor,  # (s, b, t, m)
    module: Frozen,
    pairs: Mapping[str, Pair],
    dropout: Dropout | None,
) -> Tensor:
    """What a module gives with its adapters, from what it gives without, y."""
    if module.name not in pairs:
        return y
    pair = pairs[module.name]
    if dropout is not None:
        keep = dropout.noise[module.name] >= dropout.threshold
        x = torch.where(keep, x * dropout.scale, 0)
    update = ((x.flatten(1, 2) @ pair.A.mT) @ pair.B.mT).view(*x.shape[:3], -1)
    if pair.gain is None:
        return y + update
    plain = y if module.bias is None else y - module.bias
    if dropout is not None:
        plain = _product(x, module.weight)
    return y + update + pair.gain[:, None, None] * (plain + update)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding. x: (s, b, t, heads, h); cos and sin: (s, b, t, h / 2)."""
    cos, sin = cos.unsqueeze(3), sin.unsqueeze(3)
    one, two = x.chunk(2, -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Plain attention; the query heads of one key head share one product.

    q: (s, b, q, heads, h); k, v: (s, b, t, key heads, h); mask: (s, b, q, t) -> (s, b, q, heads h).
    bf16 `scaled_dot_product_attention` is many times slower than this backwards at short lengths.
    """
    slots, rows, queries, heads, size = q.shape
    key_heads, repeat = k.shape[3], heads // k.shape[3]
    q = q.view(slots, rows, queries, key_heads, repeat, size).permute(
        0, 1, 3, 4, 2, 5
    )  # (s, b, kh, repeat, q, h)
    k, v = k.permute(0, 1, 3, 4, 2), v.transpose(2, 3)  # (s, b, kh, h, t), (s, b, kh, t, h)
    scores = (q.flatten(3, 4) @ k).view(slots, rows, key_heads, repeat, queries, -1)
    wide = scores.to(torch.promote_types(q.dtype, torch.float32)) * size**-0.5
    wide = wide.masked_fill(~mask[:, :, None, None], float("-inf"))
    shares = torch.softmax(wide, -1).to(v.dtype)
    mixed = (shares.flatten(3, 4) @ v).view(slots, rows, key_heads, repeat, queries, size)
    return mixed.permute(0, 1, 4, 2, 3, 5).reshape(slots, rows, queries, heads * size)


def _take(x: Tensor, select: Tensor | None) -> Tensor:
    """The selected tokens. x: (s, b, t, d); select: (s, b, q) -> (s, b, q, d)."""
    if select is None:
        return x
    index = select.expand(x.shape[0], x.shape[1], -1)
    return x.gather(2, index[..., None].expand(-1, -1, -1, x.shape[-1]))


def _selected_dropout(dropout: Dropout | None, select: Tensor | None) -> Dropout | None:
    if dropout is None or select is None:
        return dropout
    late = {
        name: noise if name in ("k_proj", "v_proj") else _take(noise, select)
        for name, noise in dropout.noise.items()
    }
    return dropout._replace(noise=late)


def block_forward(
    x: Tensor,
    block: Block,
    pairs: Mapping[str, Pair],
    view: View,
    dropout: Dropout | None,
    heads: Heads,
) -> Tensor:
    """One transformer block of every slot. x: (s, b, t, d) -> (s, b, q, d).

    With `view.select` only these tokens are carried on (the last block needs no others); keys and
    values are still computed of all.
    """
    dropout = _selected_dropout(dropout, view.select)
    h = rms_norm(x, block.input_norm, heads.epsilon)
    x, late = _take(x, view.select), _take(h, view.select)
    q, k, v = _project(h, late, block, heads, view.select is None)
    q, k, v = (
        _adapted(y, z, block.part(name, heads), pairs, dropout).view(*z.shape[:3], -1, heads.size)
        for name, y, z in (("q_proj", q, late), ("k_proj", k, h), ("v_proj", v, h))
    )
    q, k = _rotate(q, view.query_cos, view.query_sin), _rotate(k, view.key_cos, view.key_sin)
    mixed = _attend(q, k, v, view.mask)
    out = block.part("o_proj", heads)
    x = x + _adapted(_product(mixed, block.out), mixed, out, pairs, dropout)
    return x + _mlp(x, block, pairs, dropout, heads)


def _project(
    h: Tensor, late: Tensor, block: Block, heads: Heads, whole: bool
) -> tuple[Tensor, ...]:
    """Queries of `late`, keys and values of `h`; one product where they are the same."""
    query, rest = heads.query * heads.size, heads.key_value * heads.size
    if whole:
        return torch.split(_product(h, block.qkv, block.qkv_bias), [query, rest, rest], -1)
    bias, others = (None, None) if block.qkv_bias is None else block.qkv_bias.tensor_split([query])
    q = _product(late, block.qkv[:query], bias)
    return q, *_product(h, block.qkv[query:], others).chunk(2, -1)


def _mlp(
    x: Tensor, block: Block, pairs: Mapping[str, Pair], dropout: Dropout | None, heads: Heads
) -> Tensor:
    h = rms_norm(x, block.mlp_norm, heads.epsilon)
    gate, up = _product(h, block.gate_up).chunk(2, -1)
    gate = _adapted(gate, h, block.part("gate_proj", heads), pairs, dropout)
    up = _adapted(up, h, block.part("up_proj", heads), pairs, dropout)
    inner = F.silu(gate) * up
    down = block.part("down_proj", heads)
    return _adapted(_product(inner, block.down), inner, down, pairs, dropout)


def head_losses(x: Tensor, norm: Tensor, head: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Cross entropy of the labels of each place, w of them.

    x: (s, b, q, d), labels: (s, b, q, w) -> (s, b, q, w).
    """
    logits = F.linear(rms_norm(x, norm, epsilon), head)
    wide = logits.to(torch.promote_types(x.dtype, torch.float32))
    return wide.logsumexp(-1, keepdim=True) - wide.gather(-1, labels)
