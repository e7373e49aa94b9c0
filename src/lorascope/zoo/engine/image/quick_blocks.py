"""Whole blocks of a UNet in C, in float32: what they read, and a resnet with its gradient.

What lies between the layers of a picture stays in the processor's cache (`data/kernels/blocks.c`): layer by
layer in torch every one of them is a pass over memory and a call. Weights lie as the kernels read them, a
convolution's (taps, inputs, outputs); adapters in them have been added before. Transformers:
`quick_transformer.py`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.zoo.engine.image.plan import Plan, Resnet
from lorascope.zoo.engine.image.quick_convolution import Frozen, run_block
from lorascope.zoo.engine.image.quick_transformer import TransformerWeights, pack_transformer
from lorascope.zoo.engine.panels import LANES

__all__ = [
    "Packed",
    "ResnetWeights",
    "frozen_of",
    "pack",
    "pack_resnet",
    "resnet",
]


class ResnetWeights(NamedTuple):
    """Of one resnet."""

    norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # weight and bias
    convs: tuple[Frozen, Frozen]
    shortcut: Frozen | None
    biases: tuple[Tensor, Tensor, Tensor | None]  # of the convolutions, and the shortcut's
    groups: tuple[int, int]  # of the norms
    epsilons: tuple[float, float]

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs and outputs."""
        outputs, inputs = self.convs[0].weight.shape[:2]
        return inputs, outputs

    def tiled(self, height: int, width: int) -> bool:
        """Whether both convolutions are made tile by tile."""
        return all(conv.tiled(height, width) for conv in self.convs)


class Packed(NamedTuple):
    """What the kernels read of a UNet, by name."""

    norms: Mapping[str, Tensor]  # all weights of one axis, in float32
    convs: Mapping[str, Frozen]
    resnets: Mapping[str, ResnetWeights]
    transformers: Mapping[str, TransformerWeights]


def pack(plan: Plan, weights: Mapping[str, Tensor], known: Packed | None = None) -> Packed:
    """Norms, and the blocks of a plan in float32 whose shapes the kernels take.

    Args:
        known: of other weights; what was made of convolutions that are the same tensors is taken over.
    """
    norms = {name: each.float().contiguous() for name, each in weights.items() if each.ndim == 1}
    convs = frozen_of(weights, {} if known is None else known.convs)
    resnets: dict[str, ResnetWeights] = {}
    transformers: dict[str, TransformerWeights] = {}
    exact = all(each.dtype == torch.float32 for each in weights.values())
    for level in plan.levels if exact else ():
        for part in level.resnets:
            packed = pack_resnet(part, weights, convs)
            if packed is not None:
                resnets[part.name] = packed
        for spatial in level.spatials:
            found = None if spatial is None else pack_transformer(spatial, weights)
            if spatial is not None and found is not None:
                transformers[spatial.name] = found
    return Packed(norms, convs, resnets, transformers)


def frozen_of(weights: Mapping[str, Tensor], known: Mapping[str, Frozen]) -> dict[str, Frozen]:
    """Convolutions by name, those that are known where they are of the same tensors."""
    found = {}
    for name, weight in weights.items():
        if weight.ndim == 4:
            layer = name.removesuffix(".weight")
            same = layer in known and known[layer].weight is weight
            found[layer] = known[layer] if same else Frozen(weight)
    return found


def pack_resnet(
    part: Resnet, weights: Mapping[str, Tensor], frozen: Mapping[str, Frozen]
) -> ResnetWeights | None:
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

    def numbers(name: str) -> Tensor:
        return weights[name].float().contiguous()

    first, second = part.norms
    short = None if part.shortcut is None else part.shortcut.name
    return ResnetWeights(
        (
            (numbers(f"{first.name}.weight"), numbers(f"{first.name}.bias")),
            (numbers(f"{second.name}.weight"), numbers(f"{second.name}.bias")),
        ),
        (frozen[part.convs[0].name], frozen[part.convs[1].name]),
        None if short is None else frozen[short],
        (
            _bias(weights, part.convs[0].name),
            _bias(weights, part.convs[1].name),
            None if short is None else _bias(weights, short),
        ),
        (first.groups, second.groups),
        (first.epsilon, second.epsilon),
    )


def _bias(weights: Mapping[str, Tensor], name: str) -> Tensor:
    known = weights.get(f"{name}.bias")
    if known is None:
        return torch.zeros(len(weights[f"{name}.weight"]))
    return known.float().contiguous()


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
        d = weights.sizes[1]
        b = 0 if skip is None else skip.shape[1]
        seen = n // slots if skip is None else len(skip) // slots
        y = torch.empty((n, d, h, w), memory_format=torch.channels_last)
        keeps = any(ctx.needs_input_grad[:2])
        middle = torch.empty_like(y) if keeps else None
        late = None if late is None else late.contiguous()
        tiled = weights.tiled(h, w)
        c1, c2 = (conv.points if tiled else conv.taps for conv in weights.convs)
        (n1, n2), (d1, d2, ds) = weights.norms, weights.biases
        cs = None if weights.shortcut is None else weights.shortcut.taps
        sizes = (n, n // slots, seen, 1 if late is None else len(late), h, w, a, b, d)
        facts = (*weights.groups, *weights.epsilons, int(tiled))
        tensors = (x, skip, late, y, middle, *n1, c1, d1, *n2, c2, d2, cs, ds)
        run_block("resnet", *tensors, *sizes, *facts)
        ctx.save_for_backward(x, skip, middle)
        ctx.facts = (weights, (n, h, w, a, b, d, *facts))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the pictures and of a skip that is as long."""
        x, skip, middle = ctx.saved_tensors
        weights, sizes = ctx.facts
        assert skip is None or len(skip) == len(x)
        gx, gskip = torch.empty_like(x), None if skip is None else torch.empty_like(skip)
        tiled = weights.tiled(*x.shape[-2:])
        c1, c2 = (conv.back if tiled else conv.taps for conv in weights.convs)
        cs = None if weights.shortcut is None else weights.shortcut.taps
        n1, n2 = weights.norms
        made = (x, skip, middle, _last(gradient), gx, gskip)
        run_block("resnet_backward", *made, *n1, c1, *n2, c2, cs, *sizes)
        return gx, gskip, None, None, None


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
