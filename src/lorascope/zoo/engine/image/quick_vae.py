"""A VAE with the kernels in C: its resnets whole in float32, else norm and silu in one pass.

It is diffusers' own encoder and decoder in another dtype, channels last, whose resnets or norms are replaced; a
few pictures go through them at a time, as many as the cache holds.
"""

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lorascope.zoo.engine.image import quick, quick_blocks
from lorascope.zoo.engine.image.plan import Conv, Norm, Resnet
from lorascope.zoo.engine.image.quick_blocks import ResnetWeights, frozen_of, pack_resnet
from lorascope.zoo.engine.image.quick_convolution import LARGEST, Frozen, convolution

__all__ = ["QuickVAE"]

PLACES = 1 << 15  # of pictures that go through at once


class NormSilu(nn.Module):
    """A group norm with the silu that follows it."""

    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.groups, self.epsilon = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight.detach().float(), norm.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Of images (n, c, h, w)."""
        return quick.group_norm(x, self.weight, self.bias, self.groups, self.epsilon, silu=True)


class WholeResnet(nn.Module):
    """A resnet of a VAE, which adds no time, by the kernel that holds a picture in the cache."""

    def __init__(self, weights: ResnetWeights):
        super().__init__()
        self.weights = weights

    def forward(self, x: Tensor, temb: None = None) -> Tensor:
        """Of images (n, c, h, w)."""
        return quick_blocks.resnet(x, None, None, self.weights)


class WholeUpsample(nn.Module):
    """An Upsample2D by the kernel that sees each place twice in both directions, where it takes it."""

    def __init__(self, module: Any):
        super().__init__()
        self.plain = module
        self.frozen = Frozen(module.conv.weight.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """Of images (n, c, h, w)."""
        conv = self.plain.conv
        if self.frozen.alone(x, conv.stride[0], conv.padding[0], times=2):
            return convolution(x, self.frozen, conv.bias, times=2)
        found: Tensor = self.plain(x)
        return found


def packed_resnet(module: Any) -> ResnetWeights | None:
    """What the kernel reads of a ResnetBlock2D without a time, or None where it does not take it."""
    norms = (
        Norm("norm1", module.norm1.num_groups, module.norm1.eps),
        Norm("norm2", module.norm2.num_groups, module.norm2.eps),
    )
    convs = (
        Conv("conv1", module.conv1.stride[0], module.conv1.padding[0]),
        Conv("conv2", module.conv2.stride[0], module.conv2.padding[0]),
    )
    shortcut = None if module.conv_shortcut is None else Conv("conv_shortcut", 1, 0)
    part = Resnet("", norms, convs, shortcut, float(module.output_scale_factor))
    weights = {name: each.detach() for name, each in module.state_dict().items()}
    return pack_resnet(part, weights, frozen_of(weights, {}))


class QuickVAE:
    """Encodes and decodes as an AutoencoderKL does, without gradients."""

    def __init__(self, vae: Any, dtype: torch.dtype):
        self.config, self.dtype = vae.config, dtype
        self.encoder, self.decoder = self._quickened(vae.encoder), self._quickened(vae.decoder)
        self.after, self.before = (
            None if part is None else copy.deepcopy(part).to(dtype)
            for part in (vae.quant_conv, vae.post_quant_conv)
        )

    def _quickened(self, half: Any) -> Any:
        """A copy of the encoder or the decoder, with the kernels in its place."""
        half = copy.deepcopy(half)
        for name, module in list(half.named_modules()):
            if type(module).__name__ == "Upsample2D" and self.dtype == torch.float32:
                half.set_submodule(name, WholeUpsample(module))
            if type(module).__name__ != "ResnetBlock2D":
                continue
            packed = packed_resnet(module) if self.dtype == torch.float32 else None
            if packed is not None and self.config.sample_size**2 * max(packed.sizes) <= LARGEST:
                half.set_submodule(name, WholeResnet(packed))
                continue
            module.norm1, module.norm2 = (NormSilu(m) for m in (module.norm1, module.norm2))
            module.nonlinearity = nn.Identity()
        half.conv_norm_out, half.conv_act = NormSilu(half.conv_norm_out), nn.Identity()
        return half.to(dtype=self.dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Any:
        """Latents of pictures (b, c, h, w); their means are the answer's `latent_dist.mean`."""
        moments = self._in_parts(pictures, self.encoder, self.after)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=moments.chunk(2, 1)[0]))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Any:
        """Pictures of latents (b, c, h, w); they are the answer's `sample`."""
        return SimpleNamespace(sample=self._in_parts(latents, self.before, self.decoder))

    def _in_parts(self, x: Tensor, *layers: Any) -> Tensor:
        """What layers, one after another, make of x, a few pictures at a time."""
        made = []
        for part in torch.split(x.to(self.dtype), max(1, PLACES // self.config.sample_size**2)):
            part = part.contiguous(memory_format=torch.channels_last)
            for layer in layers:
                part = part if layer is None else layer(part)
            made.append(part)
        return torch.cat(made).to(x.dtype)
