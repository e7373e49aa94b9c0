import pytest
import torch

from lorascope.zoo.engine.image.frozen_unet import FrozenUNet
from tests.zoo.engine.image.conftest import make_unet


def test_it_holds_every_weight_and_layer():
    unet = make_unet()
    frozen = FrozenUNet.of(unet, torch.float32)
    assert set(frozen.weights) == set(unet.state_dict())
    assert frozen.weights["conv_in.weight"].is_contiguous(memory_format=torch.channels_last)
    assert frozen.layers["conv_in"] == (8, 36, (3, 3))
    assert frozen.layers["time_embedding.linear_1"] == (32, 8, None)
    assert frozen.matrix("conv_in").shape == (8, 36)
    assert frozen.to(torch.bfloat16).weights["conv_in.bias"].dtype == torch.bfloat16


def test_it_keeps_its_kernels_in_another_type_that_has_some():
    unet = FrozenUNet.of(make_unet(), torch.float32).quickened()
    if unet.packed is None:
        pytest.skip("no C compiler")
    assert unet.to(torch.bfloat16).packed is not None
    assert unet.to(torch.float64).packed is None
    assert FrozenUNet.of(make_unet(), torch.float32).to(torch.bfloat16).packed is None
