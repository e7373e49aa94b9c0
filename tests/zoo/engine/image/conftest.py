"""Tiny UNets of two layouts, and jobs for them."""

import warnings

import pytest
import torch

from lorascope.zoo.engine.image.base import ImageBase
from lorascope.zoo.engine.image.job import ImageJob

LEVELS = torch.linspace(0.999, 0.01, 50, dtype=torch.float64)
WIDTH = 12


def make_unet(**changes):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unet = UNet2DConditionModel(**{**settings, **changes})
    return unet.double().eval().requires_grad_(False)


def other_unet():
    """Attention at two levels, two layers a block, linear projections, an odd size: as SD 2."""
    return make_unet(
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        use_linear_projection=True,
        downsample_padding=0,
    )


def read(ids):
    """Texts (k, t, width) of token ids, the same for the same ids."""
    table = torch.randn(100, WIDTH, generator=torch.Generator().manual_seed(1))
    return (table[ids],)


def make_base(unet, dtype=torch.float64):
    return ImageBase.of(unet, read, LEVELS, dtype)


def make_job(seed, **changes):
    generator = torch.Generator().manual_seed(seed)
    examples, side = changes.pop("examples", 3), changes.pop("side", 8)
    settings = {
        "seed": seed,
        "latents": torch.randn(examples, 4, side, side, generator=generator),
        "prompt": torch.tensor([1, 2, seed % 3]),
        "learning_rate": 3e-3,
        "weight_decay": 1e-2,
        "steps": 4,
        "batch_size": 1,
    }
    return ImageJob(**{**settings, **changes})


@pytest.fixture
def unet():
    return make_unet()
