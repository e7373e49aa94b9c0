"""CompVis' numbered blocks against diffusers' own mapping."""

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

from lorascope.io.names.unet import from_sgm
from tests.io.networks import matrices, unet

ATTENTION = "transformer_blocks.0.attn1.to_q"
PATHS = [
    *(f"input_blocks.{i}.{part}" for i in (4, 5, 7, 8) for part in ("0.in_layers.2", f"1.{ATTENTION}")),
    *(f"output_blocks.{i}.{part}" for i in range(6) for part in ("0.out_layers.3", "1.proj_in")),
    "middle_block.0.emb_layers.1", f"middle_block.1.{ATTENTION}", "middle_block.2.in_layers.2",
    "input_blocks.3.0.op", "output_blocks.2.2.conv", "output_blocks.5.2.conv",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_blocks_as_diffusers_maps_them(path):
    class Config:
        layers_per_block = 2

    flat = f"lora_unet_{path.replace('.', '_')}.lora_down.weight"
    mapped = _maybe_map_sgm_blocks_to_diffusers({flat: torch.ones(1)}, Config())
    expected = next(iter(mapped)).removeprefix("lora_unet_").removesuffix(".lora_down.weight")
    # diffusers renames inside the blocks in a second step
    for old, new in (("_op", "_conv"), ("in_layers_2", "conv1"), ("out_layers_3", "conv2"),
                     ("emb_layers_1", "time_emb_proj"), ("middle_block", "mid_block"),
                     ("input_blocks", "down_blocks"), ("output_blocks", "up_blocks")):  # fmt: skip
        expected = expected.replace(old, new)
    assert from_sgm(path).replace(".", "_") == expected


def test_every_name_is_one_of_the_model():
    names = set(matrices(unet()))
    for path in [
        *PATHS,
        "input_blocks.0.0",
        "out.2",
        "time_embed.0",
        "input_blocks.4.0.skip_connection",
    ]:
        assert from_sgm(path) in names


@pytest.mark.parametrize("path", ["", "input_blocks", "input_blocks.x.0.op", "middle_block.9.a", "zebra.1.2.3",
                                  "input_blocks.4.7.conv", "output_blocks.1.0.riddle"])  # fmt: skip
def test_what_is_no_module_of_it(path):
    assert from_sgm(path) is None
