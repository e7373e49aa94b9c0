"""A key of each dialect is told from all others."""

import pytest

from lorascope.errors import FormatError
from lorascope.io.dialects.table import MARKS, recognise

KEYS = {
    "cloneofsimo": "unet:0:down",
    "mlx": "model.layers.0.self_attn.q_proj.lora_a",
    "torchtune": "layers.0.attn.q_proj.lora_a.weight",
    "lycoris": "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",
    "kohya": "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
    "xlabs": "double_blocks.0.processor.qkv_lora1.down.weight",
    "peft": "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
    "comfy": "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
    "diffusers": "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
    "bfl": "double_blocks.0.img_attn.qkv.lora_A.weight",
    "original": "double_blocks.0.img_attn.qkv.lora_down.weight",
}


@pytest.mark.parametrize("dialect", KEYS)
def test_each_dialect(dialect):
    assert set(KEYS) == set(MARKS)
    assert recognise([KEYS[dialect]], "a file") == dialect


@pytest.mark.parametrize(
    ("key", "dialect"),
    [
        ("lycoris_mid_block_attentions_0_proj_in.lora_down.weight", "lycoris"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", "kohya"),
        ("unet.a.attn1.processor.to_q_lora.down.weight", "diffusers"),
        ("text_encoder.a.q_proj.lora_linear_layer.up.weight", "diffusers"),
        ("unet.a.to_q.lora.up.weight", "diffusers"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "peft"),
        ("blocks.0.attn.qkv.lora_A", "peft"),
        ("text_encoders.clip_l.transformer.text_model.a.lora_A.weight", "comfy"),
    ],
)
def test_other_keys(key, dialect):
    assert recognise([key], "a file") == dialect


def test_a_configuration_of_peft_decides():
    assert recognise(["unet.a.lora_A.weight"], "a file", peft=True) == "peft"


def test_no_factor():
    with pytest.raises(FormatError, match="none of its 1 keys names a factor"):
        recognise(["model.weight"], "a file")
