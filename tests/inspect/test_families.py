import json
import os
from pathlib import Path

import pytest

from lorascope.inspect.examine import examine
from lorascope.inspect.families import RULES, UNKNOWN, compiled, family_of, flatten
from lorascope.inspect.outline import outline_of

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0."
# a layer's name, n and m -> the family
CASES = [
    (f"unet.{BLOCK}attn2.to_k", 640, 768, "SD1"),
    (f"lora_unet_{flatten(BLOCK)}attn2_to_k", 640, 1024, "SD2"),
    (f"unet.{BLOCK}attn2.to_v", 640, 2048, "SDXL"),
    (f"unet.{BLOCK}attn2.to_v", 640, 1280, "SDXL refiner"),
    ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k", 640, 2048, "SDXL"),
    ("lora_unet_middle_block_1_transformer_blocks_7_attn1_to_q", 1280, 1280, "SDXL"),
    (
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora",
        1280,
        768,
        "SD1",
    ),
    ("lora_te2_text_model_encoder_layers_3_mlp_fc1", 5120, 1280, "SDXL"),
    ("lora_te_text_model_encoder_layers_3_mlp_fc1", 3072, 768, "SD1"),
    ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 768, 768, "CLIP"),
    ("unet:105", 640, 768, "SD1"),
    ("unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q", 320, 320, "SD1 or SD2"),
    ("down_blocks.0.motion_modules.0.temporal_transformer.proj_in", 320, 320, "AnimateDiff"),
    ("transformer.transformer_blocks.3.attn.add_q_proj", 1536, 1536, "SD3"),
    ("diffusion_model.joint_blocks.3.x_block.attn.qkv", 7296, 2432, "SD3"),
    ("lora_unet_double_blocks_3_img_attn_qkv", 9216, 3072, "Flux"),
    ("transformer.single_transformer_blocks.37.proj_mlp", 12288, 3072, "Flux"),
    ("double_blocks.7.processor.qkv_lora1", 9216, 3072, "Flux"),
    ("diffusion_model.distilled_guidance_layer.layers.0.in_layer", 5120, 5120, "Chroma"),
    ("transformer.transformer_blocks.3.attn.to_q", 3072, 3072, "Flux or Qwen-Image"),
    ("transformer.transformer_blocks.42.attn.to_q", 3072, 3072, "Qwen-Image"),
    ("lora_unet_transformer_blocks_0_img_mlp_net_2", 3072, 12288, "Qwen-Image"),
    ("diffusion_model.double_blocks.19.img_attn_qkv", 9216, 3072, "HunyuanVideo"),
    ("lora_unet_double_blocks_1_img_mlp_fc1", 12288, 3072, "HunyuanVideo"),
    ("diffusion_model.double_blocks.2.img_attn.proj", 6144, 6144, "FLUX.2"),
    ("diffusion_model.blocks.39.cross_attn.k_img", 5120, 5120, "Wan"),
    ("lora_unet_blocks_0_self_attn_q", 1536, 1536, "Wan"),
    ("transformer.blocks.0.attn1.to_q", 5120, 5120, "Wan"),
    ("lora_unet_blocks_0_cross_attn_output_proj", 2048, 2048, "Cosmos-Predict2"),
    ("transformer.transformer_blocks.0.attn1.to_q", 2048, 2048, "LTX-Video"),
    ("transformer.transformer_blocks.0.attn1.to_q", 1920, 1920, "CogVideoX"),
    ("diffusion_model.layers.3.attention.qkv", 11520, 3840, "Z-Image"),
    ("model.layers.3.self_attn.qkv_proj", 9216, 3072, "Phi-3"),
    ("model.layers.3.block_sparse_moe.experts.2.w1", 14336, 4096, "Mixtral"),
    ("gpt_neox.layers.0.attention.query_key_value", 6144, 2048, "GPT-NeoX"),
    ("transformer.h.3.attn.c_attn", 2304, 768, "GPT-2"),
    ("transformer.h.3.self_attention.query_key_value", 4672, 4544, "Falcon or BLOOM"),
    ("model.decoder.layers.3.self_attn.q_proj", 768, 768, "OPT"),
    ("model.decoder.layers.3.encoder_attn.q_proj", 768, 768, "Whisper"),
    ("encoder.block.0.layer.0.SelfAttention.q", 512, 512, "T5"),
    ("bert.encoder.layer.0.attention.self.query", 768, 768, "BERT-like"),
    ("vit.encoder.layer.0.attention.attention.query", 768, 768, "ViT"),
    ("distilbert.transformer.layer.0.attention.q_lin", 768, 768, "DistilBERT"),
    ("model.layers.3.self_attn.q_proj", 896, 896, "Qwen2"),
    ("model.layers.3.mlp.gate_proj", 16384, 2048, "Gemma"),
    ("model.layers.3.mlp.gate_proj", 14336, 4096, "Llama or Mistral"),
    ("model.layers.3.mlp.gate_proj", 777, 333, "Llama-like"),
    ("something.of.no.family", 3, 4, "unknown"),
]


@pytest.mark.parametrize(("name", "n", "m", "family"), CASES)
def test_a_layer_tells_the_family(name, n, m, family):
    found = family_of([(name, n, m)])
    assert found.name == family
    assert bool(found.evidence) == (family != "unknown")


def test_one_telling_layer_among_many_decides():
    common = [(f"unet.{BLOCK}attn1.to_q".replace("1", str(i)), 320, 320) for i in range(4)]
    assert family_of([*common, (f"unet.{BLOCK}attn2.to_k", 640, 2048)]).name == "SDXL"


def test_what_cannot_be_told_apart_is_said():
    found = family_of([(f"unet.{BLOCK}attn2.to_k", 640, 2048)])
    assert {"Pony", "Illustrious", "SDXL 1.0"} <= set(found.alike)
    found = family_of([("model.layers.3.mlp.gate_proj", 14336, 4096)])
    assert found.alike == ("Llama-3-8B", "Mistral-7B")


def test_sizes_that_are_not_known_contradict_nothing():
    qkv = "lora_unet_double_blocks_3_img_attn_qkv"
    assert family_of([(qkv, None, None)]).name == "FLUX.2 or Flux"
    assert family_of([(qkv, None, None), (qkv.replace("qkv", "proj"), 3072, 3072)]).name == "Flux"
    assert family_of([("nothing.known", None, None)]) == UNKNOWN
    assert family_of([]) == UNKNOWN


def test_every_pattern_is_one():
    assert len(compiled()) == len(RULES)
    assert {rule.family for rule in RULES} > {
        "SD1",
        "SD2",
        "SDXL",
        "SD3",
        "Flux",
        "Wan",
        "Qwen-Image",
    }


@pytest.mark.skipif(
    "LORASCOPE_REAL_FILES" not in os.environ, reason="LORASCOPE_REAL_FILES names no folder"
)
def test_keys_of_real_files_tell_their_family():
    folder = Path(os.environ["LORASCOPE_REAL_FILES"]) / "invoke_keyshapes"
    told = {"flux": "Flux", "anima": "Cosmos-Predict2", "qwen": "Qwen-Image"}
    for file in sorted(folder.glob("*.json")):
        shapes = json.loads(file.read_text())["state_dict_keys"]
        outline = outline_of({key: tuple(shape) for key, shape in shapes.items()})
        family = family_of((m.name, m.n, m.m) for m in outline.modules)
        assert family.name == told[file.name.split("_")[0]], file.name


@pytest.mark.skipif(
    "LORASCOPE_REAL_FILES" not in os.environ, reason="LORASCOPE_REAL_FILES names no folder"
)
@pytest.mark.parametrize(
    ("file", "family", "width"),
    [
        ("lora_illust.pt", "SD2", 1024),  # the manifest says nothing; its text is OpenCLIP's
        ("lora_disney.safetensors", "SD1", 768),
        ("analog_svd_rank4.safetensors", "SD1", 768),
    ],
)
def test_numbered_layers_are_told_by_the_width_of_the_text(file, family, width):
    path = Path(os.environ["LORASCOPE_REAL_FILES"]) / "cloneofsimo" / file
    facts = examine(path, allow_pickle=True).facts
    text = {layer.m for layer in facts.layers if layer.name.startswith("unet.")}
    assert text - {320, 640, 1280} == {width}
    assert facts.family.name == family
