"""The decoder of a VAE with the kernels in C: its resnets whole in float32, else norm and silu in one pass.

It is diffusers' own decoder in another dtype, channels last, whose resnets or norms are replaced; a few
pictures go through it at a time, as many as the cache holds.
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

PLACES = 1 << 15  # of pictures that are decoded at once


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
    """Decodes as an AutoencoderKL does, for evaluation alone."""

    def __init__(self, vae: Any, dtype: torch.dtype):
        self.config, self.dtype = vae.config, dtype
        self.connect, self.decoder = (
            copy.deepcopy(part) for part in (vae.post_quant_conv, vae.decoder)
        )
        for name, module in list(self.decoder.named_modules()):
            if type(module).__name__ == "Upsample2D" and dtype == torch.float32:
                self.decoder.set_submodule(name, WholeUpsample(module))
            if type(module).__name__ != "ResnetBlock2D":
                continue
            packed = packed_resnet(module) if dtype == torch.float32 else None
            if packed is not None and self.config.sample_size**2 * max(packed.sizes) <= LARGEST:
                self.decoder.set_submodule(name, WholeResnet(packed))
                continue
            module.norm1, module.norm2 = (NormSilu(m) for m in (module.norm1, module.norm2))
            module.nonlinearity = nn.Identity()
        self.decoder.conv_norm_out = NormSilu(self.decoder.conv_norm_out)
        self.decoder.conv_act = nn.Identity()
        for part in (self.connect, self.decoder):
            if part is not None:
                part.to(dtype=dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Any:
        """Pictures of latents (b, c, h, w); they are the answer's `sample`."""
        side = self.config.sample_size
        parts = torch.split(latents.to(self.dtype), max(1, PLACES // side**2))
        made = [self._decode(part.contiguous(memory_format=torch.channels_last)) for part in parts]
        return SimpleNamespace(sample=torch.cat(made).to(latents.dtype))

    def _decode(self, latents: Tensor) -> Tensor:
        latents = latents if self.connect is None else self.connect(latents)
        pictures: Tensor = self.decoder(latents)
        return pictures
