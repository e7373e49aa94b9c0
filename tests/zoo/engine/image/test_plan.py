import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.image.plan import Planner
from tests.zoo.engine.image.conftest import make_unet, other_unet


@pytest.mark.parametrize("unet", [make_unet, other_unet])
def test_it_names_every_layer_once_and_in_order(unet):
    plan = Planner(unet()).plan()
    resnets = [part.name for level in plan.levels for part in level.resnets]
    assert len(resnets) == len(set(resnets))
    assert resnets[0].startswith("down_blocks.0")
    assert resnets[-1].startswith("up_blocks")
    assert sum(name.startswith("mid_block") for name in resnets) == 2


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
        Planner(make_unet(**changes)).plan()


def test_what_is_no_unet_is_refused():
    with pytest.raises(DataError, match="Linear"):
        Planner(torch.nn.Linear(2, 2)).plan()
