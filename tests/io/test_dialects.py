"""One adapter, every dialect that can hold it: the same LoRA. And no tensor of a file is lost."""

import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorascope.io import read_lora
from lorascope.io.dialects.table import recognise
from lorascope.io.read import FORMATS, Found
from lorascope.io.tensors import TensorFile
from tests.io.accounting import values_in, values_of

RANK = 2
Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "mid_block.resnets.0.conv1"
CLIP = "text_model.encoder.layers.0.self_attn.q_proj"


def factors(name, n, m, *kernel):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    down = torch.randn(RANK, m, *kernel, generator=generator)
    return down, torch.randn(n, RANK, *(1 for _ in kernel), generator=generator)


UNET = {f"unet.{Q}": factors(Q, 6, 4)}
CONVS = {f"unet.{CONV}": factors(CONV, 6, 4, 3, 3)}
TEXT = {f"text_encoder.{CLIP}": factors(CLIP, 6, 4)}
FLAT_Q, FLAT_CLIP = Q.replace(".", "_"), CLIP.replace(".", "_")
SGM_Q = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"


def spelled(down, up, names):
    """The factors under the spelled modules, with one pair of endings."""

    def make(adapter, _tmp_path):
        tensors = {}
        for name, (a, b) in adapter.items():
            tensors |= {f"{names[name]}{down}": a.clone(), f"{names[name]}{up}": b.clone()}
        return tensors

    return make


def own(prefix=""):
    names = {*UNET, *CONVS, *TEXT}
    return {name: f"{prefix}{name}" for name in names}


KOHYA = {f"unet.{Q}": f"lora_unet_{FLAT_Q}", f"unet.{CONV}": f"lora_unet_{CONV.replace('.', '_')}",
         f"text_encoder.{CLIP}": f"lora_te_{FLAT_CLIP}"}  # fmt: skip
SGM = {f"unet.{Q}": f"lora_unet_{SGM_Q.replace('.', '_')}",
       f"unet.{CONV}": "lora_unet_middle_block_0_in_layers_2",
       f"text_encoder.{CLIP}": f"lora_te1_{FLAT_CLIP}"}  # fmt: skip
COMFY = {f"unet.{Q}": f"diffusion_model.{SGM_Q}", f"unet.{CONV}": "diffusion_model.middle_block.0.in_layers.2",
         f"text_encoder.{CLIP}": f"text_encoders.clip_l.transformer.{CLIP}"}  # fmt: skip
LYCORIS = {
    name: flat.replace("lora_unet", "lycoris").replace("lora_te", "lycoris")
    for name, flat in KOHYA.items()
}
PROCESSOR = {f"unet.{Q}": f"{Q.removesuffix('to_q')}processor.to_q"}
UP_DOWN = ".lora_down.weight", ".lora_up.weight"
A_B = ".lora_A.weight", ".lora_B.weight"
STABLE = {
    "kohya": spelled(*UP_DOWN, KOHYA),
    "kohya, sgm names": spelled(*UP_DOWN, SGM),
    "lycoris prefix": spelled(*UP_DOWN, LYCORIS),
    "diffusers": spelled(*A_B, own()),
    "diffusers, unet": spelled(".lora.down.weight", ".lora.up.weight", own()),
    "diffusers, text encoder": spelled(
        ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight", own()
    ),
    "comfy": spelled(*A_B, COMFY),
    "comfy, kohya endings": spelled(*UP_DOWN, COMFY),
}
STABLE_Q = STABLE | {
    "attention processors": spelled("_lora.down.weight", "_lora.up.weight", PROCESSOR),
}
BLOCK, SINGLE = "double_blocks.0", "single_blocks.0"
FLUX = {
    f"{BLOCK}.img_attn.qkv": factors("qkv", 48, 16), f"{BLOCK}.img_attn.proj": factors("proj", 16, 16),
    f"{BLOCK}.txt_attn.qkv": factors("qkt", 48, 16), f"{SINGLE}.linear2": factors("two", 16, 80),
}  # fmt: skip
XLABS = {
    f"{BLOCK}.img_attn.qkv": f"{BLOCK}.processor.qkv_lora1",
    f"{BLOCK}.img_attn.proj": f"{BLOCK}.processor.proj_lora1",
    f"{BLOCK}.txt_attn.qkv": f"{BLOCK}.processor.qkv_lora2",
    f"{SINGLE}.linear2": f"{SINGLE}.processor.proj_lora",
}
SPLIT = {
    f"{BLOCK}.img_attn.qkv": [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"],
    f"{BLOCK}.txt_attn.qkv": [f"transformer_blocks.0.attn.add_{x}_proj" for x in "qkv"],
    f"{BLOCK}.img_attn.proj": ["transformer_blocks.0.attn.to_out.0"],
    f"{SINGLE}.linear2": ["single_transformer_blocks.0.proj_out"],
}


def split(prefix, flat, down, up):
    def make(adapter, _tmp_path):
        tensors = {}
        for name, (a, b) in adapter.items():
            for part, rows in zip(SPLIT[name], b.chunk(len(SPLIT[name])), strict=True):
                module = prefix + (part.replace(".", "_") if flat else part)
                tensors |= {f"{module}{down}": a.clone(), f"{module}{up}": rows.clone()}
        return tensors

    return make


FUSED = {
    "kohya": spelled(*UP_DOWN, {name: f"lora_unet_{name.replace('.', '_')}" for name in FLUX}),
    "comfy, ai-toolkit": spelled(*A_B, {name: f"diffusion_model.{name}" for name in FLUX}),
    "bfl": spelled(*A_B, {name: name for name in FLUX}),
    "xlabs": spelled(".down.weight", ".up.weight", XLABS),
    "diffusers": split("transformer.", False, *A_B),
    "onetrainer, legacy": split("lora_transformer_", True, *UP_DOWN),
}
ADAPTERS = [(UNET | CONVS | TEXT, STABLE), (UNET, STABLE_Q), (FLUX, FUSED)]
PAIRS = [
    (adapter, table, a, b)
    for adapter, table in ADAPTERS
    for a, b in itertools.combinations(table, 2)
]


@pytest.mark.parametrize(
    ("adapter", "table", "a", "b"), PAIRS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_two_dialects_one_lora(tmp_path, adapter, table, a, b):
    loras = []
    for dialect in (a, b):
        path = tmp_path / f"{dialect}.safetensors"
        save_file(table[dialect](adapter, tmp_path), path)
        loras.append(read_lora(path))
    first, second = loras
    if "lycoris" in a + b:  # one prefix for all components: the text encoder's is told by its words
        assert set(first) == set(second)
    assert list(first) == list(second)
    for name in first:
        torch.testing.assert_close(first[name].dense_weight(), second[name].dense_weight())
    assert {lora.provenance.outcome for lora in loras} == {"exact"}


def shapes_of(path):
    """Keys and shapes from a saved listing, in either of the two forms."""
    table = json.loads(path.read_text())
    table = table.get("state_dict_keys", table)
    table.pop("metadata_key_for_stripped_models", None)
    return {
        key: entry["shape"] if isinstance(entry, dict) else entry for key, entry in table.items()
    }


REAL = os.environ.get("LORASCOPE_REAL_FILES")
LISTED = sorted(Path(REAL).rglob("*.json")) if REAL else []
LISTED = [path for path in LISTED if path.parent.name in ("invoke_keyshapes", "invoke_headers")]
OUTCOMES = {"anima_lora_lokr_format": "part"}


@pytest.mark.skipif(REAL is None, reason="LORASCOPE_REAL_FILES names no folder of real files")
@pytest.mark.parametrize("path", LISTED, ids=lambda path: path.stem)
def test_real_key_lists_are_read_whole(path):
    tensors = {
        key: torch.ones(1).expand(shape) if shape else torch.ones(())
        for key, shape in shapes_of(path).items()
    }
    format = recognise(tensors, str(path))
    lora = FORMATS[format](TensorFile(tensors, {}), Found(format, path, "safetensors", None))
    outcome = OUTCOMES.get(path.stem, "ambiguous" if format == "peft" else "exact")
    assert lora.provenance.outcome == outcome, (lora.provenance.ambiguities, lora.provenance.left)
    assert values_of(lora) == values_in(tensors)
    assert not [note for note in lora.provenance.notes if note.startswith("nonfinite")]
