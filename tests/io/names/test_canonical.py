"""One layer, many spellings."""

import pytest

from lorascope.io.names import Namer

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CLIP = "text_model.encoder.layers.0.self_attn.q_proj"
BARE = CLIP.removeprefix("text_model.")  # as transformers 5 spells it
QKV = tuple(f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv")
SPELLINGS = {
    (f"unet.{TO_Q}",): [
        f"unet.{TO_Q}", TO_Q, f"lora_unet_{TO_Q.replace('.', '_')}", f"lycoris_{TO_Q.replace('.', '_')}",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
    ],
    (f"text_encoder.{CLIP}",): [
        f"text_encoder.{CLIP}", CLIP, f"lora_te_{CLIP.replace('.', '_')}", f"lora_te1_{CLIP.replace('.', '_')}",
        f"text_encoders.clip_l.transformer.{CLIP}",
        f"text_encoder.{BARE}", f"lora_te1_{BARE.replace('.', '_')}",
    ],
    (f"text_encoder_2.{CLIP}",): [
        f"text_encoder_2.{CLIP}", f"lora_te2_{CLIP.replace('.', '_')}", f"text_encoders.clip_g.{CLIP}",
        f"text_encoder_2.{BARE}",
    ],
    QKV: [
        "double_blocks.0.img_attn.qkv", "diffusion_model.double_blocks.0.img_attn.qkv",
        "lora_unet_double_blocks_0_img_attn_qkv", "transformer.double_blocks.0.img_attn.qkv",
        "double_blocks.0.processor.qkv_lora1",
    ],
    QKV[:1]: [QKV[0], "lora_transformer_transformer_blocks_0_attn_to_q", "transformer_blocks.0.attn.to_q"],
    ("transformer.transformer_blocks.0.ff.net.0.proj",): [
        "lora_transformer_transformer_blocks_0_ff_net_0_proj", "lora_unet_transformer_blocks_0_ff_net_0_proj",
        "double_blocks.0.img_mlp.0",
    ],
    ("transformer.blocks.0.attn1.to_q",): [
        "lora_unet__blocks_0_self_attn_q", "lora_unet_blocks_0_self_attn_q",
        "diffusion_model.blocks.0.self_attn.q",
    ],
    ("model.layers.0.self_attn.q_proj",): ["lycoris_model_layers_0_self_attn_q_proj"],
    ("q",): ["lycoris_q"],
}  # fmt: skip


@pytest.mark.parametrize("names", SPELLINGS)
def test_all_spellings_of_a_layer(names):
    for spelling in SPELLINGS[names]:
        place = Namer().place(spelling)
        assert (place.names, place.known) == (names, True), spelling


def test_the_t5_of_flux_is_its_second_text_encoder():
    t5 = "lora_te3_encoder_block_0_layer_0_SelfAttention_q"
    assert (
        Namer.of([t5, "lora_unet_joint_blocks_0_x"])
        .place(t5)
        .names[0]
        .startswith("text_encoder_3.")
    )
    namer = Namer.of([t5, "lora_unet_double_blocks_0_img_attn_qkv"])
    assert namer.place(t5).names == ("text_encoder_2.encoder.block.0.layer.0.SelfAttention.q",)


def test_double_blocks_of_another_model_keep_their_names():
    names = [
        "diffusion_model.double_blocks.0.img_attn_qkv",
        "diffusion_model.double_blocks.0.img_mlp.fc1",
    ]
    assert Namer.of(names).place(names[0]).names == ("transformer.double_blocks.0.img_attn_qkv",)
    flat = ["lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_double_blocks_0_img_mlp_fc1"]
    assert not Namer.of(flat).place(flat[0]).known


@pytest.mark.parametrize(
    "spelling", ["lora_unet_riddle_to_q", "lora_te_riddle", "lycoris_a_riddle"]
)
def test_what_cannot_be_undone(spelling):
    place = Namer().place(spelling)
    assert (place.names, place.known) == ((spelling,), False)
