"""The UNet as functions: one forward for s adapters with b images each, of `layers.py`.

Guided sampling asks for each image twice, without a text and with one: the rows are doubled where the text
first comes in, not before. What each resnet adds of the time is made before, for all of them at once.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lorascope.zoo.engine.image import quick, quick_blocks
from lorascope.zoo.engine.image.layers import (
    Context,
    Pair,
    Scene,
    conv,
    group_norm,
    images_of,
    layer_norm,
    mix,
    slotted,
    tokens_of,
    widen,
    widen_slots,
)
from lorascope.zoo.engine.image.plan import Attention, Block, Level, Plan, Resnet, Spatial
from lorascope.zoo.engine.image.quick_blocks import Packed
from lorascope.zoo.engine.image.quick_convolution import fits
from lorascope.zoo.engine.image.quick_transformer import adaptable
from lorascope.zoo.engine.image.quick_transformer import transformer as quick_transformer

__all__ = ["contexts_of", "denoise", "lates_of", "loss_of", "time_layers"]

SMALL = 1 << 12  # places seen from places: beyond, torch multiplies faster than the kernel in C
#: Beyond, their weights would fill the memory: 64 x 64 latents have 16 million a head.
LARGE = 1 << 16
LITTLE = 1 << 18  # numbers that are rather copied than multiplied in several calls


def denoise(
    plan: Plan,
    weights: Mapping[str, Tensor],
    pairs: Mapping[str, Pair],
    images: Tensor,  # (s, b, c, h, w)
    lates: Mapping[str, Tensor],  # of `lates_of`: (s, b or 1, d)
    contexts: Mapping[str, Context],
    which: Tensor | None = None,  # (rows,): rows is a multiple of b
    packed: Packed | None = None,
) -> Tensor:
    """The noise of images, for every row: (s, rows, c, h, w)."""
    scene = Scene(weights, pairs, images.shape[0], contexts, which, packed, lates)
    x = conv(scene, plan.first, images.flatten(0, 1))
    skips = [x]
    for level in plan.down:
        x = down(scene, level, x, skips)
    if plan.middle is not None:
        x = middle(scene, plan.middle, x)
    for level in plan.up:
        x = up(scene, level, x, skips)
    if plan.norm is not None:
        x = group_norm(scene, plan.norm, x, silu=True)
    return slotted(scene, conv(scene, plan.last, x))


def time_layers(plan: Plan) -> set[str]:
    """The layers that the time goes through, before and in the resnets."""
    return {"time_embedding.linear_1", "time_embedding.linear_2", *late_layers(plan).values()}


def late_layers(plan: Plan) -> dict[str, str]:
    """Of each resnet, by name, the layer that makes what it adds of the time."""
    return {
        part.name: f"{part.name}.time_emb_proj" for level in plan.levels for part in level.resnets
    }


def lates_of(
    plan: Plan,
    weights: Mapping[str, Tensor],
    pairs: Mapping[str, Pair],
    clock: Tensor,  # (s, b or 1, k): sines of the times
) -> dict[str, Tensor]:
    """What each resnet adds of the time: (s, b or 1, d)."""
    scene, layers = Scene(weights, pairs, clock.shape[0]), late_layers(plan)
    time = F.silu(mix(scene, "time_embedding.linear_1", clock))
    time = F.silu(mix(scene, "time_embedding.linear_2", time))
    matrices, biases = (
        [weights[f"{layer}.{kind}"] for layer in layers.values()] for kind in ("weight", "bias")
    )
    adapted = any(layer in pairs for layer in layers.values())
    if adapted or sum(matrix.numel() for matrix in matrices) > LITTLE:
        return {name: mix(scene, layer, time) for name, layer in layers.items()}
    whole = F.linear(time, torch.cat(matrices), torch.cat(biases))  # all at once
    parts = torch.split(whole, [len(matrix) for matrix in matrices], -1)
    return dict(zip(layers, parts, strict=True))


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
    lates = lates_of(plan, weights, pairs, clock)
    found = denoise(plan, weights, pairs, noisy, lates, contexts, None, packed)
    return (found.to(noise.dtype) - noise).square().flatten(1).mean(1)


def down(scene: Scene, level: Level, x: Tensor, skips: list[Tensor]) -> Tensor:
    """A level of the way down; what it makes is kept for the way up."""
    for part, spatial in zip(level.resnets, level.spatials, strict=True):
        x = resnet(scene, part, x)
        x = x if spatial is None else transformer(scene, spatial, x)
        skips.append(x)
    if level.sampler is not None:
        x = conv(scene, level.sampler, x)
        skips.append(x)
    return x


def middle(scene: Scene, level: Level, x: Tensor) -> Tensor:
    """The middle: a resnet, then transformers and resnets in turn."""
    for part, spatial in zip(level.resnets, level.spatials, strict=True):
        x = x if spatial is None else transformer(scene, spatial, x)
        x = resnet(scene, part, x)
    return x


def up(scene: Scene, level: Level, x: Tensor, skips: list[Tensor]) -> Tensor:
    """A level of the way up."""
    for part, spatial in zip(level.resnets, level.spatials, strict=True):
        x = resnet(scene, part, x, skips.pop())
        x = x if spatial is None else transformer(scene, spatial, x)
    if level.sampler is not None:
        size = skips[-1].shape[-2:] if skips else [2 * side for side in x.shape[-2:]]
        if list(size) == [2 * side for side in x.shape[-2:]]:
            return conv(scene, level.sampler, x, times=2)
        x = conv(scene, level.sampler, F.interpolate(x, size=size, mode="nearest"))
    return x


def resnet(scene: Scene, part: Resnet, x: Tensor, skip: Tensor | None = None) -> Tensor:
    """x + conv(silu(norm(conv(silu(norm(x))) + late))). x: (s b, c, h, w), late: (s, b or 1, d).

    A `skip` stands beside x, channel by channel; the rows of x are a multiple of its own.
    """
    late = scene.lates[part.name]
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
