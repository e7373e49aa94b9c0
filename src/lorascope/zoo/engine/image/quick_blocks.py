"""Whole blocks of a UNet in C, in float32: what they read, and a resnet with its gradient.

What lies between the layers of a picture stays in the processor's cache (`data/kernels/blocks.c`): layer by
layer in torch every one of them is a pass over memory and a call. Weights lie as the kernels read them, a
convolution's (taps, inputs, outputs); adapters in them have been added before. Transformers:
`quick_transformer.py`.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.zoo.engine.image.plan import Plan, Resnet
from lorascope.zoo.engine.image.quick import run
from lorascope.zoo.engine.image.quick_transformer import TransformerWeights, pack_transformer
from lorascope.zoo.engine.panels import LANES

__all__ = [
    "LARGEST",
    "Packed",
    "ResnetWeights",
    "fits",
    "pack",
    "pack_resnet",
    "resnet",
]

run_block = functools.partial(run, source="blocks")

LARGEST = 1 << 17  # numbers of a picture that still lie in the cache with what is made of them


class ResnetWeights(NamedTuple):
    """Of one resnet."""

    tensors: tuple[Tensor | None, ...]  # norm 1's two, conv 1's two, norm 2's, conv 2's, shortcut's
    sizes: tuple[int, int, int]  # inputs, outputs, groups of norm 1
    groups: int  # of norm 2
    epsilons: tuple[float, float]


class Packed(NamedTuple):
    """What the kernels read of a UNet, by name."""

    norms: Mapping[str, Tensor]  # all weights of one axis, in float32
    resnets: Mapping[str, ResnetWeights]
    transformers: Mapping[str, TransformerWeights]


def pack(plan: Plan, weights: Mapping[str, Tensor]) -> Packed:
    """Norms, and the blocks of a plan in float32 whose shapes the kernels take."""
    norms = {name: each.float().contiguous() for name, each in weights.items() if each.ndim == 1}
    resnets: dict[str, ResnetWeights] = {}
    transformers: dict[str, TransformerWeights] = {}
    exact = all(each.dtype == torch.float32 for each in weights.values())
    for level in plan.levels if exact else ():
        for part in level.resnets:
            packed = pack_resnet(part, weights)
            if packed is not None:
                resnets[part.name] = packed
        for spatial in level.spatials:
            found = None if spatial is None else pack_transformer(spatial, weights)
            if spatial is not None and found is not None:
                transformers[spatial.name] = found
    return Packed(norms, resnets, transformers)


def pack_resnet(part: Resnet, weights: Mapping[str, Tensor]) -> ResnetWeights | None:
    """A resnet's weights, or None where its shapes are others than the kernel's."""
    convs = [*part.convs, *([] if part.shortcut is None else [part.shortcut])]
    shapes = [weights[f"{conv.name}.weight"].shape for conv in convs]
    usual = (
        all(conv.stride == 1 for conv in convs)
        and all(conv.padding == 1 for conv in part.convs)
        and [shape[2:] for shape in shapes] == [(3, 3), (3, 3), (1, 1)][: len(convs)]
        and all(width % LANES == 0 for shape in shapes for width in shape[:2])
        and part.scale == 1
    )
    if not usual:
        return None
    tensors: list[Tensor | None] = []
    for norm, conv in zip(part.norms, part.convs, strict=True):
        tensors += [weights[f"{norm.name}.weight"], weights[f"{norm.name}.bias"]]
        tensors += [_taps(weights[f"{conv.name}.weight"]), _bias(weights, conv.name)]
    if part.shortcut is None:
        tensors += [None, None]
    else:
        tensors += [
            _taps(weights[f"{part.shortcut.name}.weight"]),
            _bias(weights, part.shortcut.name),
        ]
    outputs, inputs = shapes[0][:2]
    return ResnetWeights(
        tuple(None if each is None else each.float().contiguous() for each in tensors),
        (inputs, outputs, part.norms[0].groups),
        part.norms[1].groups,
        (part.norms[0].epsilon, part.norms[1].epsilon),
    )


def _taps(weight: Tensor) -> Tensor:  # (d, c, k, k) -> (k k, c, d)
    return weight.permute(2, 3, 1, 0).flatten(0, 1)


def _bias(weights: Mapping[str, Tensor], name: str) -> Tensor:
    known = weights.get(f"{name}.bias")
    return (
        weights[f"{name}.weight"].new_zeros(len(weights[f"{name}.weight"]))
        if known is None
        else known
    )


def fits(x: Tensor, channels: int) -> bool:
    """Whether pictures (n, c, h, w) are so small that the kernels gain on them."""
    return x.dtype == torch.float32 and x.shape[-2:].numel() * channels <= LARGEST


def resnet(
    x: Tensor,  # (s b, a, h, w)
    skip: Tensor | None,  # (s e, b, h, w), e a divisor of b: seen again
    late: Tensor | None,  # (s or s b, d): the time, of as many rows each
    weights: ResnetWeights,
    slots: int = 1,
) -> Tensor:  # (s b, d, h, w)
    """x + conv(silu(norm(conv(silu(norm(x))) + late))), with a shortcut where there is one.

    x stands before `skip`, channel by channel. Frozen weights and `late` get no gradient.
    """
    found: Tensor = FusedResnet.apply(x, skip, late, weights, slots)  # type: ignore[no-untyped-call]
    return found


class FusedResnet(torch.autograd.Function):
    """A resnet; what its second norm sees is kept for the backward, nothing else is made."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        skip: Tensor | None,
        late: Tensor | None,
        weights: ResnetWeights,
        slots: int,
    ) -> Tensor:
        """Of every picture."""
        x, skip = _last(x), None if skip is None else _last(skip)
        n, a, h, w = x.shape
        _, d, groups = weights.sizes
        b = 0 if skip is None else skip.shape[1]
        seen = n // slots if skip is None else len(skip) // slots
        y = torch.empty((n, d, h, w), memory_format=torch.channels_last)
        keeps = any(ctx.needs_input_grad[:2])
        middle = torch.empty_like(y) if keeps else None
        late = None if late is None else late.contiguous()
        w1, b1, c1, d1, w2, b2, c2, d2, cs, ds = weights.tensors
        sizes = (n, n // slots, seen, 1 if late is None else len(late), h, w, a, b, d)
        tensors = (x, skip, late, y, middle, w1, b1, c1, d1, w2, b2, c2, d2, cs, ds)
        run_block("resnet", *tensors, *sizes, groups, weights.groups, *weights.epsilons)
        ctx.save_for_backward(x, skip, middle)
        ctx.facts = (weights, (n, h, w, a, b, d, groups, weights.groups, *weights.epsilons))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the pictures and of a skip that is as long."""
        x, skip, middle = ctx.saved_tensors
        weights, sizes = ctx.facts
        assert skip is None or len(skip) == len(x)
        gx, gskip = torch.empty_like(x), None if skip is None else torch.empty_like(skip)
        w1, b1, c1, _, w2, b2, c2, _, cs, _ = weights.tensors
        made = (x, skip, middle, _last(gradient), gx, gskip)
        run_block("resnet_backward", *made, w1, b1, c1, w2, b2, c2, cs, *sizes)
        return gx, gskip, None, None, None


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
