"""Blocks of a causal language model in C, in float32: forward, and backward to the adapters.

The same as `causal_lm.py`: what lies between the layers of a slot stays in the processor's cache
(`data/kernels/decoder.c`), and nothing is traced or compiled for a shape. Layer by layer in torch every step is
a pass over memory and a call, and rows are filled and emptied.
"""

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.compiled import address, addresses, compiled_or_none, integers
from lorascope.errors import DataError
from lorascope.zoo.engine.language.causal_lm import ALWAYS, Block, Dropout, Heads, Pair, View
from lorascope.zoo.engine.language.frozen_base import ATTENTION, MLP, FrozenBase
from lorascope.zoo.engine.panels import LANES, in_panels, whole

__all__ = ["Packed", "block", "fits", "head", "library", "packed"]

LARGEST = 1 << 24  # numbers of a block's weights: of wider ones the kernels' panels leave the cache
DENSEST = 1 << 20  # the same where rows have gains: each slot then has weights of its own
LONGEST = 256  # tokens of a row: its shares are made at once
MODULES = ATTENTION + MLP  # in the order of the kernels


def library() -> Any:
    """The kernels, or None, said once, where no C compiler works."""
    return compiled_or_none("decoder", threads=True)


class BlockWeights(NamedTuple):
    """The weights of a block in the kernel's order: as they multiply tokens, then gradients."""

    norm1: Tensor
    q: Tensor
    q_bias: Tensor
    kv: Tensor
    kv_bias: Tensor
    out: Tensor
    norm2: Tensor
    gate_up: Tensor
    down: Tensor
    q_turned: Tensor
    kv_turned: Tensor
    out_turned: Tensor
    gate_up_turned: Tensor
    down_turned: Tensor


class Packed(NamedTuple):
    """The weights of a base as the kernels read them."""

    blocks: tuple[BlockWeights, ...]
    norm: Tensor
    head: tuple[Tensor, Tensor]  # as it multiplies tokens, and gradients
    words: int
    plain: tuple[Mapping[str, Tensor], ...]  # each module's weight as it is, block by block
    gains: bool  # whether rows with gains are computed


_known: weakref.WeakKeyDictionary[FrozenBase, Packed | None] = weakref.WeakKeyDictionary()


def packed(base: FrozenBase) -> Packed | None:
    """What the kernels read of a base, made once; None where they cannot compute it or would gain nothing."""
    if base not in _known:
        _known[base] = _pack(base)
    return _known[base]


def _pack(base: FrozenBase) -> Packed | None:
    if not all(_usual(each, base) for each in base.blocks) or library() is None:
        return None
    words, width = base.head.shape
    head = base.head.new_zeros(-(-words // LANES) * LANES, width)
    head[:words] = base.head
    blocks = tuple(_pack_block(each, base.heads) for each in base.blocks)
    gains = all(_numbers(each) <= DENSEST for each in base.blocks)
    plain = tuple(
        {name: each.part(name, base.heads).weight.contiguous() for name in MODULES}
        for each in base.blocks
    )
    return Packed(
        blocks, base.norm.contiguous(), (_panels(head.mT), _panels(head)), words, plain, gains
    )


def _usual(block: Block, base: FrozenBase) -> bool:
    tensors = [base.norm, base.head, *(each for each in block if each is not None)]
    sizes = (len(block.input_norm), block.down.shape[1], base.heads.size)
    return (
        all(each.dtype == torch.float32 and each.device.type == "cpu" for each in tensors)
        and all(size % LANES == 0 for size in sizes)
        and _numbers(block) <= LARGEST
    )


def _numbers(block: Block) -> int:
    return sum(each.numel() for each in block if each is not None)


def _panels(weight: Tensor) -> Tensor:
    return in_panels(weight, library())


def _pack_block(block: Block, heads: Heads) -> BlockWeights:
    query = heads.query * heads.size
    q, kv = block.qkv[:query], block.qkv[query:]
    bias = block.qkv.new_zeros(len(block.qkv)) if block.qkv_bias is None else block.qkv_bias
    gate, up = block.gate_up.chunk(2)
    return BlockWeights(
        norm1=block.input_norm.contiguous(),
        q=_panels(q.mT),
        q_bias=bias[:query].contiguous(),
        kv=_panels(kv.mT),
        kv_bias=bias[query:].contiguous(),
        out=_panels(block.out.mT),
        norm2=block.mlp_norm.contiguous(),
        gate_up=torch.cat([_panels(gate.mT).flatten(), _panels(up.mT).flatten()]),
        down=_panels(block.down.mT),
        q_turned=_panels(q),
        kv_turned=_panels(kv),
        out_turned=_panels(block.out),
        gate_up_turned=_panels(block.gate_up),
        down_turned=_panels(block.down),
    )


def fits(x: Tensor, packed: Packed, pairs: Mapping[str, Pair], view: View) -> bool:
    """Whether the kernels compute a block of these tokens with these adapters."""
    numbers = [x, *(part for pair in pairs.values() for part in pair if part is not None)]
    exact = all(each.dtype == torch.float32 for each in numbers)
    plain = all(pair.gain is None for pair in pairs.values())
    return exact and (plain or packed.gains) and view.rows.token.shape[-1] <= LONGEST


def block(
    x: Tensor,
    packed: Packed,
    number: int,
    heads: Heads,
    pairs: Mapping[str, Pair],
    view: View,
    dropout: Dropout | None,
) -> Tensor:
    """One transformer block of every slot, as `causal_lm.block_forward`. x: (k, d) -> (k', d)."""
    names = tuple(name for name in MODULES if name in pairs)
    gains = any(pairs[name].gain is not None for name in names)
    factors = [part for name in names for part in (pairs[name] if gains else pairs[name][:2])]
    plain = packed.plain[number] if gains else {}
    learning = torch.is_grad_enabled()
    call = Call(packed.blocks[number], plain, heads, names, view, dropout, learning)
    found: Tensor = _Block.apply(x, call, *factors)  # type: ignore[no-untyped-call]
    return found


def head(x: Tensor, packed: Packed, labels: Tensor, epsilon: float) -> Tensor:
    """Cross entropy of the labels of each token, as `causal_lm.head_losses`. labels: (k, w) -> (k, w).

    Raises:
        DataError: a label is no word of the vocabulary.
    """
    least, most = (int(each) for each in labels.aminmax()) if labels.numel() else (0, 0)
    if least < 0 or most >= packed.words:
        raise DataError(
            f"asking for the losses of labels: found {least if least < 0 else most}, expected tokens from 0 to "
            f"{packed.words - 1}. Try the base's own tokenizer"
        )
    found: Tensor = _Head.apply(x, packed, labels.contiguous(), epsilon)  # type: ignore[no-untyped-call]
    return found


class Call(NamedTuple):
    """What a block is computed of, but for its input and the numbers of the adapters."""

    weights: BlockWeights
    plain: Mapping[str, Tensor]  # the weights that gains multiply: of all modules, or of none
    heads: Heads
    names: tuple[str, ...]  # of the adapted modules
    view: View
    dropout: Dropout | None
    learning: bool  # whether a backward may follow

    def sorted(self, parts: Sequence[Any]) -> list[dict[str, Any]]:
        """A, B and gains by module, from the parts of one module after another."""
        each = len(parts) // max(len(self.names), 1)
        found = [dict(zip(self.names, parts[i::each], strict=True)) for i in range(each)]
        return found + [{}] * (3 - each)


class Told:
    """What the kernels are told of a call, as they read it. Holds all tensors that it points to."""

    def __init__(self, call: Call, x: Tensor, factors: Sequence[Tensor], learns: bool):
        self.held: list[Tensor | None] = []
        self.heads, asked = call.heads, call.view.asked
        inner, d = call.weights.down.shape
        count = len(x) if asked is None else asked.some.places.shape[1]
        sorted_factors = call.sorted(factors)
        A = sorted_factors[0]
        ranks = [A[name].shape[1] if name in A else 0 for name in MODULES]
        steps = [
            made[name].stride(0) if name in made else 0
            for made in sorted_factors
            for name in MODULES
        ]
        rows, length = call.view.rows.token.shape
        angles, masks = len(call.view.cos), len(call.view.mask)
        asked_angles = angles if asked is None else len(asked.cos)
        self.sizes = integers(
            *(len(factors[0]) if factors else rows, rows, len(x), count, d, inner, *self.heads[:3]),
            *(length, call.view.mask.shape[1], angles, asked_angles, masks),
            *(learns, *ranks, *steps),
        )
        self.weights = self.point(call.weights)
        self.view = self.point(_view(call.view))
        self.adapters = self.point(_adapters(call, sorted_factors))
        all_tokens = sum(rank for rank, name in zip(ranks, MODULES, strict=True) if name in ALWAYS)
        query, across = self.heads.query * self.heads.size, -(-length // LANES) * LANES
        self.shape = (count, d)
        self.kept_of_all = (2 * self.heads.key_value * self.heads.size, all_tokens)
        rest = sum(ranks) - all_tokens
        self.kept_of_some = (query, self.heads.query * across, query, d, 2 * inner, rest)

    def point(self, tensors: Sequence[Tensor | None]) -> Any:
        """The addresses of tensors, which must lie without gaps; of none 0."""
        self.held += tensors
        return addresses(tensors)

    def keep(self, count: int) -> Any:
        """Room for what the backward needs of a call of so many tokens."""
        widths = [(count, n) for n in self.kept_of_all]
        widths += [(self.shape[0], n) for n in self.kept_of_some]
        return self.point([torch.empty(each, dtype=torch.float32) for each in widths])


def _view(view: View) -> list[Tensor | None]:
    """In the order of the kernel's `View`."""
    row, column = view.rows.places
    some: list[Tensor | None] = [None] * 3
    angles: list[Tensor | None] = [view.cos.contiguous(), view.sin.contiguous(), None, None]
    if view.asked is not None:
        some = [*view.asked.some.places, *view.asked.rows.places]
        angles[2:] = [view.asked.cos.contiguous(), view.asked.sin.contiguous()]
    return [row, column, *some, *angles, view.mask.contiguous()]


def _adapters(call: Call, factors: Sequence[Mapping[str, Tensor]]) -> list[Tensor | None]:
    """In the order of the kernel's `Adapters`."""
    numbers = [made.get(name) for made in (*factors, call.plain) for name in MODULES]
    every = some = call.dropout
    if every is None or some is None:
        return [*numbers, *[None] * 11]
    if call.view.asked is not None:
        some = every.of(call.view.asked.some)
    noise = {name: (every if name in ALWAYS else some).noise[name] for name in call.names}
    chances = (every.threshold, some.threshold, every.scale, some.scale)
    return [*numbers, *(noise.get(name) for name in MODULES), *chances]


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, *factors: Tensor) -> Tensor:
        x, factors = x.contiguous(), tuple(map(whole, factors))
        told = Told(call, x, factors, ctx.needs_input_grad[0])
        keeps = call.learning and any(ctx.needs_input_grad)
        kept = told.keep(len(x)) if keeps else integers(*[0] * 8)
        y = x.new_empty(told.shape)
        facts = (told.sizes, told.weights, told.view, told.adapters, kept)
        epsilon = ctypes.c_float(call.heads.epsilon)
        library().block(*facts, address(x), address(y), epsilon)
        ctx.facts = (told, *facts, x, epsilon, call, [part.shape for part in factors])
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        told, *facts, x, epsilon, call, shapes = ctx.facts
        gradient, found = gradient.contiguous(), [x.new_zeros(shape) for shape in shapes]
        gx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        to = told.point([part.get(name) for part in call.sorted(found) for name in MODULES])
        library().block_backward(*facts, to, *map(address, (x, gradient, gx)), epsilon)
        return gx, None, *found


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed, labels: Tensor, epsilon: float) -> Tensor:
        x = x.contiguous()
        ctx.facts = (x, packed, labels, epsilon)
        losses = x.new_empty(labels.shape)
        _call_head(x, packed, labels, epsilon, losses, None, None)
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, packed, labels, epsilon = ctx.facts
        gx = torch.empty_like(x)
        _call_head(x, packed, labels, epsilon, None, gradient.contiguous(), gx)
        return gx, None, None, None


def _call_head(
    x: Tensor,
    packed: Packed,
    labels: Tensor,
    epsilon: float,
    losses: Tensor | None,
    gradient: Tensor | None,
    gx: Tensor | None,
) -> None:
    tensors = (x, packed.norm, *packed.head, labels, losses, gradient, gx)
    sizes = (*x.shape, len(packed.head[1]), packed.words, labels.shape[1])
    library().head(*map(address, tensors), *map(ctypes.c_int64, sizes), ctypes.c_float(epsilon))
