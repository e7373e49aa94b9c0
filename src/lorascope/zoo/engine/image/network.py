"""The UNet as functions: one forward for s adapters with b images each.

    frozen layer:   y = W x + c                                     on all s b images at once
    adapted layer:  y = W x + c + B A x                             A, B of each adapter, scaled
    with DoRA:      y = (1 + g) (W x + B A x) + c,   1 + g = magnitude / |W + B A|, a row each

A convolution's A is a k x k convolution to r channels, B a 1 x 1 one. Images lie channels last, so
that their places are tokens without a copy. Guided sampling asks for each image twice, without a
text and with one: the rows are doubled where the text first comes in, not before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.image import quick, quick_blocks
from lorascope.zoo.engine.image.plan import (
    Attention,
    Block,
    Conv,
    Level,
    Norm,
    Plan,
    Resnet,
    Spatial,
)
from lorascope.zoo.engine.image.quick_blocks import Packed
from lorascope.zoo.engine.image.quick_convolution import convolution, fits
from lorascope.zoo.engine.image.quick_transformer import adaptable
from lorascope.zoo.engine.image.quick_transformer import transformer as quick_transformer

SMALL = 1 << 12  # places seen from places: beyond, torch multiplies faster than the kernel in C
LARGE = (
    1 << 16
)  # beyond, their weights would fill the memory: 64 x 64 latents have 16 million a head

__all__ = ["Context", "Pair", "contexts_of", "denoise", "loss_of"]


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


def denoise(
    plan: Plan,
    weights: Mapping[str, Tensor],
    pairs: Mapping[str, Pair],
    images: Tensor,  # (s, b, c, h, w)
    clock: Tensor,  # (s, b or 1, k): sines of the times
    contexts: Mapping[str, Context],
    which: Tensor | None = None,  # (rows,): rows is a multiple of b
    packed: Packed | None = None,
) -> Tensor:
    """The noise of images, for every row: (s, rows, c, h, w)."""
    scene = Scene(weights, pairs, images.shape[0], contexts, which, packed)
    time = mix(
        scene, "time_embedding.linear_2", F.silu(mix(scene, "time_embedding.linear_1", clock))
    )
    time = F.silu(time)
    x = conv(scene, plan.first, images.flatten(0, 1))
    skips = [x]
    for level in plan.down:
        x = down(scene, level, x, time, skips)
    if plan.middle is not None:
        x = middle(scene, plan.middle, x, time)
    for level in plan.up:
        x = up(scene, level, x, time, skips)
    if plan.norm is not None:
        x = group_norm(scene, plan.norm, x, silu=True)
    return slotted(scene, conv(scene, plan.last, x))


def contexts_of(
    plan: Plan,
    weights: Mapping[str, Tensor],
    pairs: Mapping[str, Pair],
    texts: Tensor,  # (s, e, t, k)
) -> dict[str, Context]:
    """Keys and values of the texts in every attention to them."""
    scene = Scene(weights, pairs, texts.shape[0])
    levels = [*plan.down, *([] if plan.middle is None else [plan.middle]), *plan.up]
    names = [
        block.attentions[1].name
        for level in levels
        for spatial in level.spatials
        if spatial is not None
        for block in spatial.blocks
    ]
    return {
        name: Context(mix(scene, f"{name}.to_k", texts), mix(scene, f"{name}.to_v", texts))
        for name in names
    }


def loss_of(
    plan: Plan,
    weights: Mapping[str, Tensor],
    pairs: Mapping[str, Pair],
    noisy: Tensor,  # (s, b, c, h, w)
    clock: Tensor,  # (s, b, k)
    texts: Tensor,  # (s, 1, t, k)
    noise: Tensor,  # (s, b, c, h, w), in the dtype of the loss
    packed: Packed | None = None,
) -> Tensor:
    """Mean squared error of each adapter: (s,)."""
    contexts = contexts_of(plan, weights, pairs, texts)
    found = denoise(plan, weights, pairs, noisy, clock, contexts, None, packed)
    return (found.to(noise.dtype) - noise).square().flatten(1).mean(1)


def down(scene: Scene, level: Level, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
    """A level of the way down; what it makes is kept for the way up."""
    for part, spatial in zip(level.resnets, level.spatials, strict=True):
        x = resnet(scene, part, x, time)
        x = x if spatial is None else transformer(scene, spatial, x)
        skips.append(x)
    if level.sampler is not None:
        x = conv(scene, level.sampler, x)
        skips.append(x)
    return x


def middle(scene: Scene, level: Level, x: Tensor, time: Tensor) -> Tensor:
    """The middle: a resnet, then transformers and resnets in turn."""
    for part, spatial in zip(level.resnets, level.spatials, strict=True):
        x = x if spatial is None else transformer(scene, spatial, x)
        x = resnet(scene, part, x, time)
    return x


def up(scene: Scene, level: Level, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
    """A level of the way up."""
    for part, spatial in zip(level.resnets, level.spatials, strict=True):
        x = resnet(scene, part, x, time, skips.pop())
        x = x if spatial is None else transformer(scene, spatial, x)
    if level.sampler is not None:
        size = skips[-1].shape[-2:] if skips else [2 * side for side in x.shape[-2:]]
        if list(size) == [2 * side for side in x.shape[-2:]]:
            return conv(scene, level.sampler, x, times=2)
        x = conv(scene, level.sampler, F.interpolate(x, size=size, mode="nearest"))
    return x


def resnet(
    scene: Scene, part: Resnet, x: Tensor, time: Tensor, skip: Tensor | None = None
) -> Tensor:
    """x + conv(silu(norm(conv(silu(norm(x))) + time))). x: (s b, c, h, w), time: (s, b or 1, k).

    A `skip` stands beside x, channel by channel; the rows of x are a multiple of its own.
    """
    late = mix(scene, f"{part.name}.time_emb_proj", time)
    packed = fused_resnet(scene, part, x, late)
    if packed is not None:
        return quick_blocks.resnet(x, skip, late.flatten(0, 1), packed, scene.slots)
    x = x if skip is None else torch.cat((x, widen(scene, skip, x.shape[0])), 1)
    h = conv(scene, part.convs[0], group_norm(scene, part.norms[0], x, silu=True))
    h = (slotted(scene, h) + late[..., None, None]).flatten(0, 1)
    h = conv(scene, part.convs[1], group_norm(scene, part.norms[1], h, silu=True))
    x = x if part.shortcut is None else conv(scene, part.shortcut, x)
    return x + h if part.scale == 1 else (x + h) / part.scale


def fused_resnet(
    scene: Scene, part: Resnet, x: Tensor, late: Tensor
) -> quick_blocks.ResnetWeights | None:
    """What the kernel in C reads of a resnet, where it takes it and nothing of it is adapted."""
    packed = None if scene.packed is None else scene.packed.resnets.get(part.name)
    if packed is None or late.requires_grad or not fits(x, max(packed.sizes)):
        return None
    adapted = any(conv.name in scene.pairs for conv in (*part.convs, part.shortcut) if conv)
    return None if adapted else packed


def transformer(scene: Scene, spatial: Spatial, x: Tensor) -> Tensor:
    """Attention over the places of images (s b, c, h, w), on top of them."""
    packed = None if scene.packed is None else scene.packed.transformers.get(spatial.name)
    widest = max(x.shape[1], x.shape[-2:].numel())  # of its numbers, and of what a place sees
    if packed is not None and fits(x, widest) and adaptable(packed, scene.pairs, spatial):
        context = scene.contexts[spatial.blocks[0].attentions[1].name]
        which = texts_of(scene, x.shape[0] // scene.slots, x.device)
        if len(which) * scene.slots == len(x) or not torch.is_grad_enabled():
            return quick_transformer(x, *context, which, packed, scene.pairs)
    tokens = tokens_of(scene, group_norm(scene, spatial.norm, x, silu=False))
    tokens = mix(scene, f"{spatial.name}.proj_in", tokens)
    for block in spatial.blocks:
        tokens = transformer_block(scene, block, tokens)
    images = images_of(mix(scene, f"{spatial.name}.proj_out", tokens), x.shape[-2:])
    return images + widen(scene, x, images.shape[0])


def texts_of(scene: Scene, rows: int, device: torch.device) -> Tensor:
    """The text of each row: (rows,), all the same where none is said."""
    return (
        torch.zeros(rows, dtype=torch.int64, device=device) if scene.which is None else scene.which
    )


def transformer_block(scene: Scene, block: Block, x: Tensor) -> Tensor:
    """Attention to itself, to the text, feed-forward. x: (s, b, t, c)."""
    first, second = block.attentions
    seen = layer_norm(scene, block.norms[0], x)
    own = Context(mix(scene, f"{first.name}.to_k", seen), mix(scene, f"{first.name}.to_v", seen))
    itself = torch.arange(x.shape[1], device=x.device)
    x = x + attend(scene, first, mix(scene, f"{first.name}.to_q", seen), own, itself)
    query = mix(scene, f"{second.name}.to_q", layer_norm(scene, block.norms[1], x))
    which = texts_of(scene, x.shape[1], x.device)
    x, query = (widen_slots(part, len(which)) for part in (x, query))
    x = x + attend(scene, second, query, scene.contexts[second.name], which)
    return x + feed_forward(scene, block, layer_norm(scene, block.norms[2], x))


def attend(scene: Scene, part: Attention, query: Tensor, context: Context, which: Tensor) -> Tensor:
    """softmax(q k^T) v in heads, and the output's projection.

    query: (s, b, t, c), context: of e texts or rows, which: (b,) of these.
    """
    places = query.shape[2] * context.key.shape[2]
    if scene.packed is not None and places <= SMALL:
        seen = quick.attention(query, *context, which, part.heads, part.scale)
    else:
        q, k, v = (
            each.view(*each.shape[:-1], part.heads, -1).transpose(-2, -3)
            for each in (query, context.key[:, which], context.value[:, which])
        )
        if places > LARGE:
            rows = [each.flatten(0, 1) for each in (q, k, v)]
            heads = F.scaled_dot_product_attention(rows[0], rows[1], rows[2], scale=part.scale)
            heads = heads.reshape(q.shape)
        else:
            heads = ((q * part.scale) @ k.mT).softmax(-1) @ v
        seen = heads.transpose(-2, -3).flatten(-2)
    return mix(scene, f"{part.name}.to_out.0", seen)


def feed_forward(scene: Scene, block: Block, x: Tensor) -> Tensor:
    """The two layers of a block with the activation between them."""
    name = f"{block.name}.ff.net.0.proj"
    if scene.packed is not None and block.activation == "geglu" and name not in scene.pairs:
        h = F.linear(x, scene.weights[f"{name}.weight"])  # the kernel adds the bias
        h = quick.gated(h, scene.packed.norms[f"{name}.bias"])
    elif block.activation == "geglu":
        h, gate = mix(scene, name, x).chunk(2, -1)
        h = h * F.gelu(gate)
    else:
        kind = "tanh" if block.activation == "tanh" else "none"
        h = F.gelu(mix(scene, name, x), approximate=kind)
    return mix(scene, f"{block.name}.ff.net.2", h)


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
