"""The layers of a UNet as functions, of s adapters with b images each.

    frozen layer:   y = W x + c                                     on all s b images at once
    adapted layer:  y = W x + c + B A x                             A, B of each adapter, scaled
    with DoRA:      y = (1 + g) (W x + B A x) + c,   1 + g = magnitude / |W + B A|, a row each

A convolution's A is a k x k convolution to r channels, B a 1 x 1 one. Images lie channels last, so
that their places are tokens without a copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.image import quick
from lorascope.zoo.engine.image.plan import Conv, Norm
from lorascope.zoo.engine.image.quick_blocks import Packed
from lorascope.zoo.engine.image.quick_convolution import convolution

__all__ = [
    "Context",
    "Pair",
    "Scene",
    "conv",
    "group_norm",
    "images_of",
    "layer_norm",
    "mix",
    "slotted",
    "tokens_of",
    "widen",
    "widen_slots",
]


class Pair(NamedTuple):
    """The factors of one layer for every adapter, the scale folded into B; not yet rounded."""

    A: Tensor  # (s, r, m)
    B: Tensor  # (s, n, r)
    gain: Tensor | None = None  # (s, n): of DoRA, less 1


class Context(NamedTuple):
    """What one attention to the text sees."""

    key: Tensor  # (s, e, t, c): of e texts
    value: Tensor  # (s, e, t, c)


@dataclass(frozen=True, eq=False)
class Scene:
    """What every layer of one forward needs."""

    weights: Mapping[str, Tensor]
    pairs: Mapping[str, Pair]
    slots: int
    contexts: Mapping[str, Context] = field(default_factory=dict)
    which: Tensor | None = None  # (rows,) int64: the text of each row; None: one text for all
    packed: Packed | None = None  # where the kernels in C are used
    lates: Mapping[str, Tensor] = field(default_factory=dict)  # what each resnet adds of the time


def mix(scene: Scene, name: str, x: Tensor) -> Tensor:
    """A linear layer, or a 1 x 1 convolution on tokens. (s, ..., m) -> (s, ..., n)."""
    weight, bias = scene.weights[f"{name}.weight"].flatten(1), scene.weights.get(f"{name}.bias")
    pair = scene.pairs.get(name)
    if pair is None:
        return F.linear(x, weight, bias)
    flat = x.flatten(1, -2)
    if scene.packed is not None and pair.gain is None:
        return quick.adapted(flat, weight, bias, pair.A, pair.B).view(*x.shape[:-1], -1)
    low = flat @ pair.A.to(x.dtype).mT @ pair.B.to(x.dtype).mT
    if pair.gain is None:
        y = F.linear(flat, weight, bias) + low
    else:
        y = F.linear(flat, weight) + low
        y = y + pair.gain[:, None].to(x.dtype) * y
        y = y if bias is None else y + bias
    return y.view(*x.shape[:-1], -1)


def conv(scene: Scene, part: Conv, x: Tensor, times: int = 1) -> Tensor:
    """A convolution. (s b, c, h, w) -> (s b, n, h', w').

    Before it each place is seen `times` x `times` times.
    """
    weight = scene.weights[f"{part.name}.weight"]
    kernel, pair = weight.shape[-2:], scene.pairs.get(part.name)
    frozen = None if scene.packed is None or pair is not None else scene.packed.convs[part.name]
    if frozen is not None and frozen.alone(x, part.stride, part.padding, times):
        return convolution(x, frozen, scene.weights.get(f"{part.name}.bias"), times)
    x = x if times == 1 else F.interpolate(x, scale_factor=times, mode="nearest")
    if kernel == (1, 1) and part.stride == 1 and part.padding == 0:
        return images_of(mix(scene, part.name, tokens_of(scene, x)), x.shape[-2:])
    bias, padding = scene.weights.get(f"{part.name}.bias"), part.padding
    if padding < 0:
        x, padding = F.pad(x, (0, 1, 0, 1)), 0
    x = x.contiguous(memory_format=torch.channels_last)
    if pair is None:
        return F.conv2d(x, weight, bias, part.stride, padding)
    y = F.conv2d(x, weight, None if pair.gain is not None else bias, part.stride, padding)
    low = low_rank_conv(scene, pair, F.unfold(x, kernel, 1, padding, part.stride))
    y = y + low.view(y.shape)
    if pair.gain is not None:
        gain = pair.gain.to(y.dtype).repeat_interleave(y.shape[0] // scene.slots, 0)
        gain = gain[..., None, None]
        y = y + gain * y
        y = y if bias is None else y + bias[:, None, None]
    return y


def low_rank_conv(scene: Scene, pair: Pair, patches: Tensor) -> Tensor:
    """B A of each adapter on patches (s b, m, places): (s b, n, places)."""
    patches = slotted(scene, patches)
    A, B = (part[:, None].to(patches.dtype) for part in (pair.A, pair.B))
    return (B @ (A @ patches)).flatten(0, 1)


def group_norm(scene: Scene, norm: Norm, x: Tensor, *, silu: bool) -> Tensor:
    """Group norm over images (s b, c, h, w), then silu if asked.

    Sums over places, which lie far apart, come first.
    """
    if scene.packed is not None:
        own = [scene.packed.norms[f"{norm.name}.{kind}"] for kind in ("weight", "bias")]
        return quick.group_norm(x, own[0], own[1], norm.groups, norm.epsilon, silu=silu)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    c = x.shape[1]
    grouped = (x.shape[0], norm.groups, c // norm.groups)

    def over_group(values: Tensor) -> Tensor:  # (s b, c) -> the mean of its group, (s b, c, 1, 1)
        mean = values.view(grouped).mean(-1, keepdim=True)
        return mean.expand(grouped).reshape(-1, c)[..., None, None]

    centred = wide - over_group(wide.mean((-2, -1)))
    variance = over_group(centred.square().mean((-2, -1)))
    weight, bias = (scene.weights[f"{norm.name}.{k}"][:, None, None] for k in ("weight", "bias"))
    y = (centred * (variance + norm.epsilon).rsqrt() * weight + bias).to(x.dtype)
    return F.silu(y) if silu else y


def layer_norm(scene: Scene, norm: Norm, x: Tensor) -> Tensor:
    """Layer norm over the last axis."""
    if scene.packed is not None:
        own = [scene.packed.norms[f"{norm.name}.{kind}"] for kind in ("weight", "bias")]
        return quick.layer_norm(x, own[0], own[1], norm.epsilon)
    weight, bias = (scene.weights[f"{norm.name}.{kind}"] for kind in ("weight", "bias"))
    return F.layer_norm(x, x.shape[-1:], weight, bias, norm.epsilon)


def slotted(scene: Scene, rows: Tensor) -> Tensor:
    """(s b, ...) -> (s, b, ...)."""
    return rows.view(scene.slots, -1, *rows.shape[1:])


def tokens_of(scene: Scene, images: Tensor) -> Tensor:
    """(s b, c, h, w) -> (s, b, h w, c)."""
    return slotted(scene, images.permute(0, 2, 3, 1).flatten(1, 2))


def images_of(tokens: Tensor, size: torch.Size) -> Tensor:
    """(s, b, h w, c) -> (s b, c, h, w), channels last."""
    return tokens.reshape(-1, *size, tokens.shape[-1]).permute(0, 3, 1, 2)


def widen(scene: Scene, images: Tensor, rows: int) -> Tensor:
    """Images (s b, ...) as often as the text asks for: (rows, ...), rows a multiple of s b."""
    if images.shape[0] == rows:
        return images
    return widen_slots(slotted(scene, images), rows // scene.slots).flatten(0, 1)


def widen_slots(x: Tensor, rows: int) -> Tensor:
    """(s, b, ...) -> (s, rows, ...), rows a multiple of b."""
    if x.shape[1] == rows:
        return x
    return x.repeat(1, rows // x.shape[1], *(1,) * (x.ndim - 2))
