"""A transformer over the places of pictures in C, in float32, with the adapters of each slot.

As in `quick_blocks.py`, what lies between two layers of a picture stays in the processor's cache
(`data/kernels/transformer.c`). Adapters may be those of the attentions; keys and values of the texts are made
before, once for all pictures that see them.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.compiled import address, addresses, compiled, integers
from lorascope.zoo.engine.image.plan import Spatial
from lorascope.zoo.engine.panels import LANES, in_panels, whole

__all__ = ["TransformerWeights", "adaptable", "pack_transformer", "transformer"]

OWN, TEXT = ("to_q", "to_k", "to_v", "to_out.0"), ("to_q", "to_out.0")  # what may be adapted


class TransformerWeights(NamedTuple):
    """Of one transformer of one block."""

    tensors: tuple[Tensor, ...]  # in the order of the kernel's `Weights`
    modules: tuple[str, ...]  # what may be adapted, in the kernel's order
    heads: int
    width: int  # of the feed-forward layer
    groups: int
    constants: tuple[float, ...]  # of the norms, and what shares are scaled with


def pack_transformer(spatial: Spatial, weights: Mapping[str, Tensor]) -> TransformerWeights | None:
    """A transformer's weights, or None where its shapes are others than the kernel's."""
    if len(spatial.blocks) != 1 or spatial.blocks[0].activation != "geglu":
        return None
    (block,) = spatial.blocks
    first, second = block.attentions
    one, two = first.name, second.name
    up, back = f"{block.name}.ff.net.0.proj", f"{block.name}.ff.net.2"
    width, channels = weights[f"{back}.weight"].shape[::-1]
    inner = weights[f"{one}.to_q.weight"].shape[0]
    biased = any(f"{part.name}.to_{x}.bias" in weights for part in block.attentions for x in "qkv")
    usual = (
        not biased
        and (first.heads, first.scale) == (second.heads, second.scale)
        and inner == channels == weights[f"{spatial.name}.proj_in.weight"].shape[1]
        and all(size % LANES == 0 for size in (width, channels // first.heads))
    )
    if not usual:
        return None

    def panels(weight: Tensor) -> Tensor:
        return in_panels(weight, compiled("transformer"))

    def matrix(name: str) -> Tensor:
        return weights[f"{name}.weight"].flatten(1)

    def linear(name: str) -> list[Tensor]:
        bias = weights.get(f"{name}.bias")
        return [
            panels(matrix(name).mT),
            matrix(name).new_zeros(len(matrix(name))) if bias is None else bias,
        ]

    def norm(name: str) -> list[Tensor]:
        return [weights[f"{name}.weight"], weights[f"{name}.bias"]]

    names = (f"{spatial.name}.proj_in", *(f"{one}.to_{x}" for x in "qkv"), f"{one}.to_out.0")
    names += (f"{two}.to_q", f"{two}.to_out.0", up, back, f"{spatial.name}.proj_out")
    tensors = [
        *norm(spatial.norm.name),
        *linear(f"{spatial.name}.proj_in"),
        *norm(block.norms[0].name),
        *(panels(matrix(f"{one}.to_{x}").mT) for x in "qkv"),
        *linear(f"{one}.to_out.0"),
        *norm(block.norms[1].name),
        panels(matrix(f"{two}.to_q").mT),
        *linear(f"{two}.to_out.0"),
        *norm(block.norms[2].name),
        *linear(up),
        *linear(back),
        *linear(f"{spatial.name}.proj_out"),
        *(panels(matrix(name)) for name in names),  # turned
    ]
    epsilons = (spatial.norm.epsilon, *(each.epsilon for each in block.norms))
    return TransformerWeights(
        tuple(each.float().contiguous() for each in tensors),
        (*(f"{one}.{x}" for x in OWN), *(f"{two}.{x}" for x in TEXT)),
        first.heads,
        width,
        spatial.norm.groups,
        (*epsilons, first.scale),
    )


def adaptable(weights: TransformerWeights, pairs: Mapping[str, Any], spatial: Spatial) -> bool:
    """Whether the kernel computes a transformer with these adapters."""
    within = {name: pair for name, pair in pairs.items() if name.startswith(f"{spatial.name}.")}
    text = spatial.blocks[0].attentions[1].name
    known = {*weights.modules, f"{text}.to_k", f"{text}.to_v"}
    return within.keys() <= known and all(pair.gain is None for pair in within.values())


def transformer(
    x: Tensor,  # (s b, c, h, w)
    key: Tensor,  # (s, e, u, c): of e texts
    value: Tensor,  # (s, e, u, c)
    which: Tensor,  # (rows,): the text of each row; rows is a multiple of b, pictures are seen again
    weights: TransformerWeights,
    pairs: Mapping[str, tuple[Tensor, Tensor, Any]],
) -> Tensor:  # (s rows, c, h, w)
    """Attention over the places of pictures, to the texts, feed-forward, on top of them.

    The gradient, of pictures, keys, values, A and B, where every picture is one row.
    """
    factors = [part for name in weights.modules if name in pairs for part in pairs[name][:2]]
    adapted = tuple(name in pairs for name in weights.modules)
    given = (x, key, value, which, weights, adapted, torch.is_grad_enabled(), *factors)
    found: Tensor = _Transformer.apply(*given)  # type: ignore[no-untyped-call]
    return found


class _Transformer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        which: Tensor,
        weights: TransformerWeights,
        adapted: tuple[bool, ...],
        learning: bool,
        *factors: Tensor,
    ) -> Tensor:
        x, key, value = _last(x), key.contiguous(), value.contiguous()
        factors = tuple(map(whole, factors))
        n, c, h, w = x.shape
        slots, texts, length = key.shape[:3]
        A, B = (_in_order(adapted, factors[i::2]) for i in (0, 1))
        keeps, rows = learning and any(ctx.needs_input_grad), slots * len(which)
        assert not keeps or rows == n
        sizes = integers(
            *(
                slots,
                n,
                rows,
                texts,
                h * w,
                length,
                c,
                weights.heads,
                weights.width,
                weights.groups,
            ),
            ctx.needs_input_grad[0],
            *(0 if each is None else each.shape[1] for each in A),
            *(0 if each is None else each.stride(0) for each in (*A, *B)),
        )
        library = compiled("transformer")
        library.kept_of.restype = ctypes.c_int64
        kept = x.new_empty(n, library.kept_of(sizes)) if keeps else None
        y = torch.empty((rows, c, h, w), dtype=x.dtype, memory_format=torch.channels_last)
        constants = (ctypes.c_float * 5)(*weights.constants)
        facts = (sizes, addresses(weights.tensors), constants, addresses((*A, *B)))
        library.transformer(*facts, *map(address, (kept, x, key, value, which, y)))
        if keeps:
            ctx.facts = (facts, weights.tensors, adapted, factors)
            ctx.save_for_backward(kept, x, key, value, which)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, x, key, value, which = ctx.saved_tensors
        facts, _, adapted, factors = ctx.facts
        found = [torch.zeros_like(part, memory_format=torch.contiguous_format) for part in factors]
        to = addresses([each for i in (0, 1) for each in _in_order(adapted, found[i::2])])
        gx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gkey = torch.zeros_like(key) if ctx.needs_input_grad[1] else None
        gvalue = torch.zeros_like(value)
        made = (kept, x, key, value, which, _last(gradient), gx, gkey, gvalue)
        compiled("transformer").transformer_backward(*facts, to, *map(address, made))
        return gx, gkey, gvalue, None, None, None, None, *found


def _in_order(adapted: Sequence[bool], some: Sequence[Tensor]) -> list[Tensor | None]:
    """One for each module that may be adapted: those of the adapted ones, in their order."""
    left = iter(some)
    return [next(left) if each else None for each in adapted]


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
