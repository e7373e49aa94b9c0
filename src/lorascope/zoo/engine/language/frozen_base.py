"""`FrozenBase`: a Qwen2- or Llama-style transformer as frozen, fused tensors of one dtype.

It is made of a transformers model once; `causal_lm.py` computes with it. The weights of q, k, v
and of gate, up are stacked by rows, so that each pair or triple is one product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lorascope.errors import DataError
from lorascope.zoo.engine.layout import LayerShape

__all__ = ["Block", "Frozen", "FrozenBase", "Heads"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


class Heads(NamedTuple):
    """The plain numbers of a block."""

    query: int
    key_value: int
    size: int
    epsilon: float


class Frozen(NamedTuple):
    """One frozen linear module."""

    name: str
    weight: Tensor  # (n, m)
    bias: Tensor | None = None  # (n,)


class Block(NamedTuple):
    """The frozen weights of one transformer block; q, k, v and gate, up are fused by rows."""

    input_norm: Tensor  # (d,)
    qkv: Tensor  # (query + 2 key_value, d)
    qkv_bias: Tensor | None  # (query + 2 key_value,)
    out: Tensor  # (d, query)
    mlp_norm: Tensor  # (d,)
    gate_up: Tensor  # (2 f, d)
    down: Tensor  # (d, f)

    def to(self, dtype: torch.dtype, device: torch.device) -> "Block":
        """The same block in another dtype, on another device."""
        changed = {
            name: w.to(device=device, dtype=dtype)
            for name, w in self._asdict().items()
            if w is not None
        }
        return self._replace(**changed)

    def rounded(self, dtype: torch.dtype) -> "Block":
        """The same block with its matrices in a coarser type; norms and biases stay."""
        names = ("qkv", "out", "gate_up", "down")
        return self._replace(**{name: getattr(self, name).to(dtype) for name in names})

    def part(self, name: str, heads: Heads) -> Frozen:
        """One of the modules that are fused, as views."""
        if name in ("o_proj", "down_proj"):
            return Frozen(name, self.out if name == "o_proj" else self.down)
        if name in ("gate_proj", "up_proj"):
            return Frozen(name, self.gate_up.chunk(2)[name == "up_proj"])
        query, rest = heads.query * heads.size, heads.key_value * heads.size
        start = {"q_proj": 0, "k_proj": query, "v_proj": query + rest}[name]
        rows = slice(start, start + (query if name == "q_proj" else rest))
        return Frozen(name, self.qkv[rows], None if self.qkv_bias is None else self.qkv_bias[rows])


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
    linear_shapes: Mapping[str, LayerShape]  # module path -> shape, in the model's order

    compiled: bool = False  # whether compiled kernels are to be used, where they work
    exact: "FrozenBase | None" = None  # in float32, for the first steps (`opening.py`)
    exact_steps: int = 0  # of each adapter

    @classmethod
    def of(cls, model: nn.Module, dtype: torch.dtype) -> "FrozenBase":
        """Take the weights of a Qwen2ForCausalLM or LlamaForCausalLM, cast once to `dtype`.

        Raises:
            DataError: the model is not of this architecture.
        """
        return _freeze(model, dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where everything is computed."""
        return self.embedding.device

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> "FrozenBase":
        """The same base in another dtype (from a wider one, or precision is not regained) or device."""
        dtype, device = dtype or self.dtype, device or self.device
        if dtype == self.dtype and device == self.device:
            return self
        embedding, norm = (w.to(device=device, dtype=dtype) for w in (self.embedding, self.norm))
        shared = self.head is self.embedding
        return replace(
            self,
            embedding=embedding,
            blocks=tuple(block.to(dtype, device) for block in self.blocks),
            norm=norm,
            head=embedding if shared else self.head.to(device=device, dtype=dtype),
            frequencies=self.frequencies.to(device),
            dtype=dtype,
            exact=None,
            exact_steps=0,
        )

    def opened(self, dtype: torch.dtype, steps: int) -> "FrozenBase":
        """This base in another dtype, which knows this one for the training of adapters."""
        return replace(self.to(dtype), exact=self, exact_steps=steps)

    @cached_property
    def later(self) -> "FrozenBase":
        """What adapters are trained on after their first steps: the exact base, but for the products with
        the frozen matrices of its blocks, which are computed in this one's dtype.
        """
        if self.exact is None:
            return self
        blocks = tuple(block.rounded(self.dtype) for block in self.exact.blocks)
        return replace(self.exact, blocks=blocks, compiled=self.compiled)

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotary embedding, float32 angles as transformers computes them.

        positions: (...) int64 -> two tensors (..., h / 2), the same for both halves of a head.
        """
        angles = positions[..., None].float() * self.frequencies
        cos, sin = angles.cos() * self.rope_scale, angles.sin() * self.rope_scale
        return cos.to(self.dtype), sin.to(self.dtype)

    def weight_of(self, layer: str) -> Tensor:
        """The frozen weight of a module by its path: (n, m)."""
        parts = layer.split(".")
        return self.blocks[int(parts[2])].part(parts[-1], self.heads).weight

    def targeted(self, targets: tuple[str, ...]) -> dict[str, LayerShape]:
        """The shape of every module that the target suffixes name, in the model's order."""
        return {
            path: shape
            for path, shape in self.linear_shapes.items()
            if any(path == t or path.endswith(f".{t}") for t in targets)
        }


def _freeze(model: nn.Module, dtype: torch.dtype) -> FrozenBase:
    config: Any = getattr(model, "config", None)
    _check_architecture(config)
    weights = {k: v.detach().to(dtype) for k, v in model.state_dict().items()}
    embedding = weights["model.embed_tokens.weight"]
    rotary: Any = model.get_submodule("model.rotary_emb")
    words: Any = model.get_submodule("model.embed_tokens")
    head: Any = model.get_submodule("lm_head")
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return FrozenBase(
        embedding=embedding,
        blocks=tuple(_block(weights, i) for i in range(config.num_hidden_layers)),
        norm=weights["model.norm.weight"],
        # tied weights are one tensor, or each cast and each device would hold them twice
        head=embedding if head.weight is words.weight else weights["lm_head.weight"],
        heads=Heads(
            config.num_attention_heads, config.num_key_value_heads, size, config.rms_norm_eps
        ),
        frequencies=rotary.inv_freq.detach().float(),
        rope_scale=float(rotary.attention_scaling),
        dtype=dtype,
        linear_shapes={
            path: LayerShape(module.out_features, module.in_features)
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
