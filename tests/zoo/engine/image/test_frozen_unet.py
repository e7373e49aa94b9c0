import pytest
import torch

from lorascope.errors import DataError
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


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"act_fn": "gelu"}, "UNet2DConditionModel"),
        ({"center_input_sample": True}, "config"),
        ({"num_class_embeds": 3}, "class_embedding"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnets"),
        ({"down_block_types": ("ResnetDownsampleBlock2D", "CrossAttnDownBlock2D")}, "down_blocks"),
        ({"only_cross_attention": True}, "transformer_blocks"),
        ({"upcast_attention": False, "dual_cross_attention": True}, "attentions"),
    ],
)
def test_parts_that_the_plan_does_not_know_are_named(changes, named):
    with pytest.raises(DataError, match=named):
        FrozenUNet.of(make_unet(**changes))


def test_what_is_no_unet_is_refused():
    with pytest.raises(DataError, match="Linear"):
        FrozenUNet.of(torch.nn.Linear(2, 2))
