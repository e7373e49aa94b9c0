"""The functional forward of a frozen Qwen2- or Llama-style transformer, for many adapters at once.

Activations are (s, b, t, d): s slots, each with its own adapter, b rows of t tokens. The base's
weights are frozen, fused and shared; the adapters are batched products over the slots:

    y = x @ W.T + bias + (drop(x) @ A.T) @ (factor * B).T

What is not here: training (`fit.py`), questions (`evaluate.py`), generation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorascope.errors import DataError

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

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


class Heads(NamedTuple):
    """The plain numbers of a block."""

    query: int
    key_value: int
    size: int
    epsilon: float


class Block(NamedTuple):
    """The frozen weights of one transformer block; q, k, v and gate, up are fused by rows."""

    input_norm: Tensor  # (d,)
    qkv: Tensor  # (query + 2 key_value, d)
    qkv_bias: Tensor | None  # (query + 2 key_value,)
    out: Tensor  # (d, query)
    mlp_norm: Tensor  # (d,)
    gate_up: Tensor  # (2 f, d)
    down: Tensor  # (d, f)

    def to(self, dtype: torch.dtype) -> "Block":
        """The same block in another dtype."""
        changed = {name: w.to(dtype) for name, w in self._asdict().items() if w is not None}
        return self._replace(**changed)


class Pair(NamedTuple):
    """The adapters of one module in every slot, the scale folded into B."""

    A: Tensor  # (s, r, m)
    B: Tensor  # (s, n, r)


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


@dataclass(frozen=True, eq=False)
class FrozenBase:
    """A transformers causal language model as frozen tensors of one dtype."""

    embedding: Tensor  # (vocabulary, d)
    blocks: tuple[Block, ...]
    norm: Tensor  # (d,)
    head: Tensor  # (vocabulary, d)
    heads: Heads
    frequencies: Tensor  # (h / 2,) float32
    rope_scale: float
    dtype: torch.dtype
    linear_shapes: Mapping[str, tuple[int, int]]  # module path -> (n, m), in the model's order

    compiled: bool = False  # whether compiled kernels are to be used: known to work here

    @classmethod
    def of(cls, model: nn.Module, dtype: torch.dtype) -> "FrozenBase":
        """Take the weights of a Qwen2ForCausalLM or LlamaForCausalLM, cast once to `dtype`.

        Raises:
            DataError: the model is not of this architecture.
        """
        return _freeze(model, dtype)

    def to(self, dtype: torch.dtype) -> "FrozenBase":
        """The same base in another dtype (from a wider one, or precision is not regained)."""
        if dtype == self.dtype:
            return self
        return replace(
            self,
            embedding=self.embedding.to(dtype),
            blocks=tuple(block.to(dtype) for block in self.blocks),
            norm=self.norm.to(dtype),
            head=self.head.to(dtype),
            dtype=dtype,
        )

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary embedding, float32 angles as transformers computes them.

        positions: (...) int64 -> two tensors (..., h / 2), the same for both halves of a head.
        """
        angles = positions[..., None].float() * self.frequencies
        cos, sin = angles.cos() * self.rope_scale, angles.sin() * self.rope_scale
        return cos.to(self.dtype), sin.to(self.dtype)

    def targeted(self, targets: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """The (n, m) of every module that the target suffixes name, in the model's order."""
        return {
            path: shape
            for path, shape in self.linear_shapes.items()
            if any(path == t or path.endswith(f".{t}") for t in targets)
        }


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm, at least in float32. x: (..., d) -> (..., d)."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


def _update(x: Tensor, name: str, pairs: Mapping[str, Pair], dropout: Dropout | None) -> Tensor:
    """(drop(x) @ A.T) @ B.T of one adapted module. x: (s, b, t, m) -> (s, b, t, n)."""
    pair = pairs[name]
    if dropout is not None:
        keep = dropout.noise[name] >= dropout.threshold
        x = torch.where(keep, x * dropout.scale, 0)
    flat = x.flatten(1, 2)
    return ((flat @ pair.A.mT) @ pair.B.mT).view(*x.shape[:3], -1)


def _adapted(
    y: Tensor, x: Tensor, name: str, pairs: Mapping[str, Pair], dropout: Dropout | None
) -> Tensor:
    return y + _update(x, name, pairs, dropout) if name in pairs else y


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
        _adapted(y, z, name, pairs, dropout).view(*z.shape[:3], -1, heads.size)
        for name, y, z in (("q_proj", q, late), ("k_proj", k, h), ("v_proj", v, h))
    )
    q, k = _rotate(q, view.query_cos, view.query_sin), _rotate(k, view.key_cos, view.key_sin)
    mixed = _attend(q, k, v, view.mask)
    x = x + _adapted(F.linear(mixed, block.out), mixed, "o_proj", pairs, dropout)
    return x + _mlp(x, block, pairs, dropout, heads)


def _project(
    h: Tensor, late: Tensor, block: Block, heads: Heads, whole: bool
) -> tuple[Tensor, ...]:
    """Queries of `late`, keys and values of `h`; one product where they are the same."""
    query, rest = heads.query * heads.size, heads.key_value * heads.size
    if whole:
        return torch.split(F.linear(h, block.qkv, block.qkv_bias), [query, rest, rest], -1)
    bias, others = (None, None) if block.qkv_bias is None else block.qkv_bias.tensor_split([query])
    q = F.linear(late, block.qkv[:query], bias)
    return q, *F.linear(h, block.qkv[query:], others).chunk(2, -1)


def _mlp(
    x: Tensor, block: Block, pairs: Mapping[str, Pair], dropout: Dropout | None, heads: Heads
) -> Tensor:
    h = rms_norm(x, block.mlp_norm, heads.epsilon)
    gate, up = F.linear(h, block.gate_up).chunk(2, -1)
    gate = _adapted(gate, h, "gate_proj", pairs, dropout)
    up = _adapted(up, h, "up_proj", pairs, dropout)
    inner = F.silu(gate) * up
    return _adapted(F.linear(inner, block.down), inner, "down_proj", pairs, dropout)


def head_losses(x: Tensor, norm: Tensor, head: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Cross entropy of the labels of each place, w of them.

    x: (s, b, q, d), labels: (s, b, q, w) -> (s, b, q, w).
    """
    logits = F.linear(rms_norm(x, norm, epsilon), head)
    wide = logits.to(torch.promote_types(x.dtype, torch.float32))
    return wide.logsumexp(-1, keepdim=True) - wide.gather(-1, labels)


def _freeze(model: nn.Module, dtype: torch.dtype) -> FrozenBase:
    config: Any = getattr(model, "config", None)
    _check_architecture(config)
    weights = {k: v.detach().to(dtype) for k, v in model.state_dict().items()}
    rotary: Any = model.get_submodule("model.rotary_emb")
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return FrozenBase(
        embedding=weights["model.embed_tokens.weight"],
        blocks=tuple(_block(weights, i) for i in range(config.num_hidden_layers)),
        norm=weights["model.norm.weight"],
        head=weights.get("lm_head.weight", weights["model.embed_tokens.weight"]),
        heads=Heads(
            config.num_attention_heads, config.num_key_value_heads, size, config.rms_norm_eps
        ),
        frequencies=rotary.inv_freq.detach().float(),
        rope_scale=float(rotary.attention_scaling),
        dtype=dtype,
        linear_shapes={
            path: (module.out_features, module.in_features)
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and path.rsplit(".", 1)[-1] in ATTENTION + MLP
        },
    )


def _check_architecture(config: Any) -> None:
    kind = getattr(config, "model_type", None)
    if kind not in ("qwen2", "llama") or config.hidden_act != "silu":
        raise DataError(
            f"freezing a base model: found the architecture {kind!r}, expected 'qwen2' or 'llama' "
            "with SwiGLU. Try Qwen2ForCausalLM or LlamaForCausalLM of transformers"
        )
    unknown = ("use_sliding_window", "mlp_bias", "attention_bias")
    if any(getattr(config, name, False) for name in unknown):
        raise DataError(
            f"freezing a {kind} base: sliding windows and biases of the output or the MLP are not "
            "supported. Try a configuration without them"
        )


def _block(weights: Mapping[str, Tensor], index: int) -> Block:
    get: Callable[[str], Tensor] = lambda name: weights[f"model.layers.{index}.{name}"]  # noqa: E731
    qkv = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
    biased = f"model.layers.{index}.{qkv[0]}.bias" in weights
    return Block(
        input_norm=get("input_layernorm.weight"),
        qkv=torch.cat([get(f"{name}.weight") for name in qkv]),
        qkv_bias=torch.cat([get(f"{name}.bias") for name in qkv]) if biased else None,
        out=get("self_attn.o_proj.weight"),
        mlp_norm=get("post_attention_layernorm.weight"),
        gate_up=torch.cat([get("mlp.gate_proj.weight"), get("mlp.up_proj.weight")]),
        down=get("mlp.down_proj.weight"),
    )
