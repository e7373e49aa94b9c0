"""The names of original transformers against the modules of diffusers' models."""

import pytest

from lorascope.io.names.diffusion import (
    TRANSFORMERS,
    cosmos_place,
    flux_place,
    sd3_place,
    wan_place,
)
from tests.io.networks import flux, matrices, sd3

FLUX = ["img_in", "txt_in", "time_in.in_layer", "vector_in.out_layer", "guidance_in.in_layer",
        "final_layer.linear", "final_layer.adaLN_modulation.1"]  # fmt: skip
DOUBLE = ["img_attn.qkv", "txt_attn.qkv", "img_attn.proj", "txt_attn.proj", "img_mlp.0", "img_mlp.2",
          "txt_mlp.0", "txt_mlp.2", "img_mod.lin", "txt_mod.lin", "processor.qkv_lora1",
          "processor.proj_lora2"]  # fmt: skip
SINGLE = ["linear1", "linear2", "modulation.lin", "processor.qkv_lora", "processor.proj_lora"]


def test_every_flux_name_is_a_module_of_the_model():
    names = set(matrices(flux()))
    paths = [
        *FLUX,
        *(f"double_blocks.1.{p}" for p in DOUBLE),
        *(f"single_blocks.1.{p}" for p in SINGLE),
    ]
    found = {name for path in paths for name in flux_place(path).names}
    assert found <= names
    blocks = {name for name in names if ".1." in name and "blocks.1." in name}
    assert blocks <= found


def test_every_sd3_name_is_a_module_of_the_model():
    names = set(matrices(sd3()))
    for stream, parts in {"x_block": ("attn.qkv", "attn2.qkv", "attn.proj", "mlp.fc1", "adaLN_modulation.1"),
                          "context_block": ("attn.qkv", "attn.proj", "mlp.fc2")}.items():  # fmt: skip
        for part in parts:
            assert set(sd3_place(f"joint_blocks.0.{stream}.{part}").names) <= names


def test_wan_and_cosmos():
    assert wan_place("blocks.3.cross_attn.k_img").names == ("blocks.3.attn2.add_k_proj",)
    assert wan_place("blocks.3.ffn.0").names == ("blocks.3.ffn.net.0.proj",)
    assert wan_place("head.head").names == ("proj_out",)
    assert cosmos_place("blocks.2.self_attn.output_proj").names == (
        "transformer_blocks.2.attn1.to_out.0",
    )
    assert cosmos_place("blocks.2.mlp.layer1").names == ("transformer_blocks.2.ff.net.0.proj",)
    assert cosmos_place("blocks.2.adaln_modulation_mlp.2").names == (
        "transformer_blocks.2.norm3.linear_2",
    )
    assert cosmos_place("t_embedder.1").names == ("time_embed.t_embedder",)


@pytest.mark.parametrize("path", ["", "blocks", "blocks.1", "blocks.1.riddle.q", "double_blocks.0.riddle",
                                  "joint_blocks.1.riddle"])  # fmt: skip
def test_what_is_no_module_of_any(path):
    assert all(table(path) is None for table in TRANSFORMERS.values())
