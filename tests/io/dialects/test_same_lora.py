"""One adapter in every dialect that can hold it, pair by pair: the same LoRA. Families beyond SD and Flux.

A family is its layers with their factors, and for each dialect a function that saves them as its programs do.
What lorascope writes stands beside what others write. SD1 and Flux are in tests/io/test_dialects.py.
"""

import itertools
import json

import numpy
import pytest
import torch
from safetensors.torch import save_file

from lorascope.core import LoRA, LowRank
from lorascope.io import read_lora, write_lora

RANK = 2
UP_DOWN = ".lora_down.weight", ".lora_up.weight"
A_B = ".lora_A.weight", ".lora_B.weight"
OLD = ".lora.down.weight", ".lora.up.weight"
LINEAR = ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"


def factors(name, n, m):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return torch.randn(RANK, m, generator=generator), torch.randn(n, RANK, generator=generator)


def layers(sizes):
    return {name: factors(name, *size) for name, size in sizes.items()}


def spelled(endings, names):
    """A safetensors file: layer -> module by a table or a rule, with one pair of endings."""

    def save(adapter, folder):
        tensors = {}
        for layer, (down, up) in adapter.items():
            module = names(layer) if callable(names) else names[layer]
            tensors |= {module + endings[0]: down.clone(), module + endings[1]: up.clone()}
        save_file(tensors, folder / "lora.safetensors")
        return folder / "lora.safetensors"

    return save


def fused(endings, parts, names):
    """The same where some modules are several layers with one down; `parts`: module -> its layers."""

    def save(adapter, folder):
        tensors = {}
        for module, members in parts.items():
            down = adapter[members[0]][0]
            up = torch.cat([adapter[layer][1] for layer in members])
            tensors |= {names(module) + endings[0]: down.clone(), names(module) + endings[1]: up}
        save_file(tensors, folder / "lora.safetensors")
        return folder / "lora.safetensors"

    return save


def ours(format):
    """What lorascope writes."""

    def save(adapter, folder):
        value = LoRA({name: LowRank(up, down.T) for name, (down, up) in adapter.items()})
        return write_lora(
            value, folder / ("a.safetensors" if format == "kohya" else "a"), format=format
        )

    return save


def own(name):
    return name


def flat(prefixes, renamed=None):
    """Underscores for dots, after the prefix of the component."""

    def name(layer):
        component, _, path = layer.partition(".")
        path = (renamed or {}).get(layer, path)
        return f"{prefixes[component]}_{path.replace('.', '_')}"

    return name


def dotted(prefixes, renamed=None):
    def name(layer):
        component, _, path = layer.partition(".")
        return prefixes[component] + (renamed or {}).get(layer, path)

    return name


CLIP = "text_model.encoder.layers.0.self_attn.q_proj"
MLP = "text_model.encoder.layers.11.mlp.fc1"
T5 = "encoder.block.0.layer.0.SelfAttention.q"
T5_FF = "encoder.block.3.layer.1.DenseReluDense.wi_0"
COMFY = {"unet": "diffusion_model.", "transformer": "diffusion_model.",
         "text_encoder": "text_encoders.clip_l.transformer.",
         "text_encoder_2": "text_encoders.clip_g.transformer.",
         "text_encoder_3": "text_encoders.t5xxl.transformer."}  # fmt: skip

# SD1's text encoder
TEXT = layers({f"text_encoder.{CLIP}": (6, 4), f"text_encoder.{MLP}": (8, 4)})
TEXTS = {
    "kohya": spelled(UP_DOWN, flat({"text_encoder": "lora_te"})),
    "kohya, numbered": spelled(UP_DOWN, flat({"text_encoder": "lora_te1"})),
    "lycoris": spelled(UP_DOWN, flat({"text_encoder": "lycoris"})),
    "diffusers": spelled(LINEAR, own),
    "diffusers, peft endings": spelled(A_B, own),
    "comfy": spelled(A_B, dotted(COMFY)),
    "ours, kohya": ours("kohya"),
    "ours, peft": ours("peft"),
}

Q = "unet.down_blocks.2.attentions.1.transformer_blocks.3.attn1.to_q"
OUT = "unet.up_blocks.0.attentions.2.proj_out"
TIME = "unet.up_blocks.1.resnets.0.time_emb_proj"
SGM = {Q: "input_blocks.8.1.transformer_blocks.3.attn1.to_q", OUT: "output_blocks.2.1.proj_out",
       TIME: "output_blocks.3.0.emb_layers.1"}  # fmt: skip
SDXL = layers(
    {
        Q: (6, 4),
        OUT: (4, 4),
        TIME: (6, 8),
        f"text_encoder.{CLIP}": (6, 4),
        f"text_encoder_2.{MLP}": (8, 4),
    }
)
TWO = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
SDXLS = {
    "kohya, sgm names": spelled(UP_DOWN, flat(TWO, SGM)),
    "kohya, diffusers names": spelled(UP_DOWN, flat(TWO)),
    "diffusers": spelled(A_B, own),
    "diffusers, old": spelled(OLD, own),
    "comfy": spelled(A_B, dotted(COMFY, SGM)),
    "comfy, kohya endings": spelled(UP_DOWN, dotted(COMFY, SGM)),
    "ours, kohya": ours("kohya"),
    "ours, peft": ours("peft"),
}


def shared(members):
    """The parts of a fused matrix have one down."""
    first = factors(members[0], 16, 16)[0]
    return {name: (first, factors(name, 16, 16)[1]) for name in members}


def transformer(*parts):
    return [f"transformer.transformer_blocks.0.attn.{part}" for part in parts]


SD3_QKV, SD3_TEXT = (
    transformer("to_q", "to_k", "to_v"),
    transformer("add_q_proj", "add_k_proj", "add_v_proj"),
)
SECOND = [name.replace("attn.", "attn2.") for name in SD3_QKV]
SD3_PARTS = {
    "transformer.joint_blocks.0.x_block.attn.qkv": SD3_QKV,
    "transformer.joint_blocks.0.context_block.attn.qkv": SD3_TEXT,
    "transformer.joint_blocks.0.x_block.attn2.qkv": SECOND,
    "transformer.joint_blocks.0.x_block.attn.proj": transformer("to_out.0"),
    "transformer.joint_blocks.0.context_block.mlp.fc1": [
        "transformer.transformer_blocks.0.ff_context.net.0.proj"
    ],
    **{name: [name] for name in (f"text_encoder.{CLIP}", f"text_encoder_2.{MLP}", f"text_encoder_3.{T5}")},
}  # fmt: skip
SD3 = layers({name: (16, 16) for members in SD3_PARTS.values() for name in members}) | shared(
    SD3_QKV
)
SD3 |= shared(SD3_TEXT) | shared(SECOND)
THREE = {"transformer": "lora_unet", **TWO, "text_encoder_3": "lora_te3"}
SD3S = {
    "kohya": fused(UP_DOWN, SD3_PARTS, flat(THREE)),
    "comfy": fused(A_B, SD3_PARTS, dotted(COMFY)),
    "diffusers": spelled(A_B, own),
    "onetrainer, legacy": spelled(UP_DOWN, flat(THREE | {"transformer": "lora_transformer"})),
    "ours, kohya": ours("kohya"),
    "ours, peft": ours("peft"),
}

FLUX_QKV = transformer("to_q", "to_k", "to_v")
FLUX_PARTS = {
    "transformer.double_blocks.0.img_attn.qkv": FLUX_QKV,
    "transformer.single_blocks.0.linear2": ["transformer.single_transformer_blocks.0.proj_out"],
    "transformer.single_blocks.0.modulation.lin": ["transformer.single_transformer_blocks.0.norm.linear"],
    **{name: [name] for name in (f"text_encoder.{CLIP}", f"text_encoder_2.{T5}", f"text_encoder_2.{T5_FF}")},
}  # fmt: skip
FLUX = layers({name: (16, 16) for members in FLUX_PARTS.values() for name in members}) | shared(
    FLUX_QKV
)
FLUX_FLAT = {"transformer": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te3"}
FLUXES = {
    "kohya": fused(UP_DOWN, FLUX_PARTS, flat(FLUX_FLAT)),
    "comfy": fused(
        A_B, FLUX_PARTS, dotted(COMFY | {"text_encoder_2": "text_encoders.t5xxl.transformer."})
    ),
    "diffusers": spelled(A_B, own),
    "onetrainer, legacy": spelled(UP_DOWN, flat(FLUX_FLAT | {"transformer": "lora_transformer"})),
    "ours, kohya": ours("kohya"),
    "ours, peft": ours("peft"),
}

WAN_NAMES = {
    "transformer.blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "transformer.blocks.0.attn1.to_out.0": "blocks.0.self_attn.o",
    "transformer.blocks.29.attn2.add_k_proj": "blocks.29.cross_attn.k_img",
    "transformer.blocks.3.ffn.net.0.proj": "blocks.3.ffn.0",
    "transformer.blocks.3.ffn.net.2": "blocks.3.ffn.2",
    "transformer.condition_embedder.time_embedder.linear_1": "time_embedding.0",
}
ANIMA_NAMES = {
    "transformer.transformer_blocks.0.attn1.to_q": "blocks.0.self_attn.q_proj",
    "transformer.transformer_blocks.0.attn2.to_out.0": "blocks.0.cross_attn.output_proj",
    "transformer.transformer_blocks.7.ff.net.0.proj": "blocks.7.mlp.layer1",
    "transformer.transformer_blocks.7.norm1.linear_1": "blocks.7.adaln_modulation_self_attn.1",
}
QWEN_NAMES = {
    f"transformer.transformer_blocks.0.{part}": f"transformer_blocks.0.{part}"
    for part in (
        "attn.to_q",
        "attn.add_q_proj",
        "attn.to_out.0",
        "img_mlp.net.0.proj",
        "txt_mlp.net.2",
        "img_mod.1",
    )
}


def original(names, *, legacy=False):
    """The dialects of a transformer whose matrices are not fused, from its own names."""
    found = {
        "musubi": spelled(UP_DOWN, flat({"transformer": "lora_unet"}, names)),
        "wan-fun": spelled(UP_DOWN, flat({"transformer": "lora_unet_"}, names)),
        "comfy": spelled(A_B, dotted(COMFY, names)),
        "comfy, kohya endings": spelled(UP_DOWN, dotted(COMFY, names)),
        "diffusers": spelled(A_B, own),
        "ours, kohya": ours("kohya"),
        "ours, peft": ours("peft"),
    }
    if legacy:
        found["onetrainer, legacy"] = spelled(UP_DOWN, flat({"transformer": "lora_transformer"}))
    return found


# q and k are left out where a program keeps their rows in another order: test_torchtune.py, test_llama_cpp.py
VALUE, OUTPUT, GATE, DOWN = (
    f"model.layers.3.{part}"
    for part in ("self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
)
LANGUAGE = layers({VALUE: (32, 64), OUTPUT: (64, 32), GATE: (96, 64), DOWN: (64, 96)})
LLAMA_CPP = {VALUE: "attn_v", OUTPUT: "attn_output", GATE: "ffn_gate", DOWN: "ffn_down"}
TUNE = {VALUE: "attn.v_proj", OUTPUT: "attn.output_proj", GATE: "mlp.w1", DOWN: "mlp.w2"}
PEFT_CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "base_model_name_or_path": "x"}


def peft(prefix, endings):
    def save(adapter, folder):
        spelled(endings, lambda layer: prefix + layer)(adapter, folder)
        (folder / "lora.safetensors").rename(folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(PEFT_CONFIG))
        return folder

    return save


def mlx(name):
    def save(adapter, folder):
        tensors = {}
        for layer, (down, up) in adapter.items():
            tensors |= {
                f"{layer}.lora_a": down.T.contiguous(),
                f"{layer}.lora_b": up.T.contiguous(),
            }
        if name.endswith("npz"):
            numpy.savez(folder / name, **{key: tensor.numpy() for key, tensor in tensors.items()})
        else:
            save_file(tensors, folder / name)
        config = {"fine_tune_type": "lora", "lora_parameters": {"rank": RANK, "scale": 1.0}}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return save


def torchtune(adapter, folder):
    spelled((".lora_a.weight", ".lora_b.weight"), lambda layer: f"layers.3.{TUNE[layer]}")(
        adapter, folder
    )
    (folder / "adapter_config.json").write_text(json.dumps(PEFT_CONFIG))
    return folder / "lora.safetensors"


def llama_cpp(adapter, folder):
    import gguf

    writer = gguf.GGUFWriter(folder / "lora.gguf", "qwen2")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", RANK)
    for layer, (down, up) in adapter.items():
        writer.add_tensor(f"blk.3.{LLAMA_CPP[layer]}.weight.lora_a", down.numpy())
        writer.add_tensor(f"blk.3.{LLAMA_CPP[layer]}.weight.lora_b", up.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "lora.gguf"


LANGUAGES = {
    "peft": peft("base_model.model.", A_B),
    "peft, injected": peft("", A_B),
    "peft, dumped": peft("base_model.model.", (".lora_A.default.weight", ".lora_B.default.weight")),
    "mlx": mlx("adapters.safetensors"),
    "mlx, npz": mlx("adapters.npz"),
    "torchtune": torchtune,
    "gguf": llama_cpp,
    "lycoris": spelled(UP_DOWN, lambda layer: f"lycoris_{layer.replace('.', '_')}"),
    "ours, peft": ours("peft"),
}
FAMILIES = {
    "SD1's text encoder": (TEXT, TEXTS),
    "SDXL": (SDXL, SDXLS),
    "SD3": (SD3, SD3S),
    "Flux with text encoders": (FLUX, FLUXES),
    "Wan": (layers(dict.fromkeys(WAN_NAMES, (6, 4))), original(WAN_NAMES)),
    "Anima": (layers(dict.fromkeys(ANIMA_NAMES, (6, 4))), original(ANIMA_NAMES)),
    "Qwen-Image": (
        layers(dict.fromkeys(QWEN_NAMES, (6, 4))),
        original(QWEN_NAMES, legacy=True),
    ),
    "language models": (LANGUAGE, LANGUAGES),
}
PAIRS = [
    (family, a, b)
    for family, (_, table) in FAMILIES.items()
    for a, b in itertools.combinations(table, 2)
]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Family and dialect -> the LoRA that is read from it."""
    return {
        (family, dialect): read_lora(save(adapter, tmp_path_factory.mktemp("dialect")))
        for family, (adapter, table) in FAMILIES.items()
        for dialect, save in table.items()
    }


@pytest.mark.parametrize(("family", "a", "b"), PAIRS)
def test_two_dialects_one_lora(read, family, a, b):
    first, second = read[family, a], read[family, b]
    assert list(first) == list(second)
    assert set(first) == set(FAMILIES[family][0])
    for name in first:
        torch.testing.assert_close(first[name].dense(), second[name].dense(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "dialect"), [(f, d) for f, (_, table) in FAMILIES.items() for d in table]
)
def test_nothing_is_left_open(read, family, dialect):
    """But for what a GGUF cannot say about any adapter."""
    provenance = read[family, dialect].provenance
    codes = [line.partition(":")[0] for line in provenance.ambiguities]
    assert codes == (["rslora"] if dialect == "gguf" else [])
    assert provenance.left == ()
