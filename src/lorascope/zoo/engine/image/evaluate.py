"""Guided noise of many finetuned UNets at once: what their samples are made from.

    e = (1 - w) e(empty) + w e(prompt)

Both rows of an image go through one pass, which doubles them where the text first comes in; keys and
values of the texts are made once for all steps of the sampler; equal texts next to each other once.
One adapter alone is added to the frozen weights, so that its samples cost what the base's cost.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lorascope.zoo.engine.dora import with_gains
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.image.base import ImageBase
from lorascope.zoo.engine.image.fit import pairs_of
from lorascope.zoo.engine.image.layers import Context, Pair
from lorascope.zoo.engine.image.network import contexts_of, denoise, lates_of, time_layers
from lorascope.zoo.engine.image.quick_blocks import pack
from lorascope.zoo.engine.lanes import master_dtype
from lorascope.zoo.engine.layout import Layout

__all__ = ["guide_of"]

#: Latents (g, p, c, h, w) and a time -> the guided noise, of the same shape.
Predict = Callable[[Tensor, int], Tensor]


def guide_of(
    base: ImageBase, fitted: Fitted, guidance: float, *, models: int = 1
) -> Callable[[Tensor, Tensor], Predict]:
    """For texts (g, p, t, k) of fitted adapters and the empty text (t, k), who predicts the noise.

    Args:
        models: how many adapters go through the UNet at once.
    """

    def guide(texts: Tensor, empty: Tensor) -> Predict:
        cuts = [slice(i, i + models) for i in range(0, len(fitted), models)]
        guided = [Guided(base, fitted.select(range(len(fitted))[c]), texts[c], empty) for c in cuts]

        def predict(latents: Tensor, time: int) -> Tensor:
            parts = [each.noise(latents[c], time) for each, c in zip(guided, cuts, strict=True)]
            without, with_ = torch.cat(parts).to(latents).chunk(2, 1)
            return without + guidance * (with_ - without)

        return predict

    return guide


class Guided:
    """Some adapters with the texts that they are asked about."""

    @torch.no_grad()
    def __init__(self, base: ImageBase, fitted: Fitted, texts: Tensor, empty: Tensor):
        self.base = base
        scaled = fitted.scaled.to(base.device, master_dtype(base.dtype))
        self.weights: Mapping[str, Tensor] = base.unet.weights
        self.packed = base.unet.packed
        self.pairs: Mapping[str, Pair] = {}
        if len(fitted) == 1:
            self.weights = merged(base, fitted.layout, scaled)
            self.packed = (
                None if self.packed is None else pack(base.unet.plan, self.weights, self.packed)
            )
        else:
            self.pairs = pairs_of(base, fitted.layout, scaled)
        self.own_time = not time_layers(base.unet.plan).isdisjoint(fitted.layout.shapes)
        kept, rows = different(texts)
        asked = torch.cat((empty.expand(len(texts), 1, -1, -1), texts[:, kept]), 1)
        unet = base.unet
        self.contexts: Mapping[str, Context] = contexts_of(
            unet.plan, self.weights, self.pairs, asked.to(base.device, unet.dtype)
        )
        self.which = torch.cat((torch.zeros_like(rows), rows + 1)).to(base.device)

    @torch.no_grad()
    def noise(self, latents: Tensor, time: int) -> Tensor:
        """The noise without and with the texts: (s, p, c, h, w) -> (s, 2 p, c, h, w)."""
        unet, device = self.base.unet, self.base.device
        lates = self._lates(time)
        return denoise(
            unet.plan,
            self.weights,
            self.pairs,
            latents.to(device, unet.dtype),
            {name: late.expand(len(latents), -1, -1) for name, late in lates.items()},
            self.contexts,
            self.which,
            self.packed,
        )

    def _lates(self, time: int) -> Mapping[str, Tensor]:
        """What each resnet adds of the time: the frozen UNet's own where no layer of it is adapted."""
        unet = self.base.unet
        if not self.own_time:
            return unet.lates(time)
        adapters = next((len(pair.A) for pair in self.pairs.values()), 1)
        ticks = unet.ticks(time).expand(adapters, -1, -1)
        return lates_of(unet.plan, self.weights, self.pairs, ticks)


def merged(base: ImageBase, layout: Layout, scaled: Tensor) -> dict[str, Tensor]:
    """The UNet's weights with the adapter of the only row (1, p) in them, its scale in B.

    W + B A of a layer, with DoRA (1 + g)(W + B A), is rounded once to what the UNet computes in.
    """
    weights = dict(base.unet.weights)
    rows = with_gains(layout, scaled, base.unet.matrix)
    for name, (A, B, gain) in layout.unpack(rows).items():
        frozen = weights[f"{name}.weight"]
        whole = torch.addmm(frozen.flatten(1).to(rows.dtype), B[0], A[0])
        whole = whole if gain is None else whole + gain[0, :, None] * whole
        kind = torch.channels_last if frozen.ndim == 4 else torch.contiguous_format
        weights[f"{name}.weight"] = (
            whole.to(base.dtype).view(frozen.shape).contiguous(memory_format=kind)
        )
    return weights


def different(texts: Tensor) -> tuple[Tensor, Tensor]:
    """Which texts (g, p, t, k) differ from the one before: their indices, and of each row its text."""
    fresh = torch.ones(texts.shape[1], dtype=torch.bool)
    fresh[1:] = (texts[:, 1:] != texts[:, :-1]).flatten(2).any(2).any(0)
    return fresh.nonzero()[:, 0], fresh.cumsum(0) - 1
