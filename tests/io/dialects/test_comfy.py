"""Dotted original names: ComfyUI's spellings, ai-toolkit, OneTrainer and BFL's control LoRAs."""

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_bfl_flux_control_lora_to_diffusers,
    _convert_non_diffusers_wan_lora_to_diffusers,
)
from safetensors.torch import save_file

from lorascope.io import read_lora

DRAW = torch.Generator().manual_seed(0)
A, B = torch.randn(2, 16, generator=DRAW), torch.randn(16, 2, generator=DRAW)
BLOCK = "double_blocks.0.img_attn.proj"
LAYER = "transformer.transformer_blocks.0.attn.to_out.0"
# ComfyUI's spellings of one layer: regular, diffusers, diffusers 2 and 3, mochi, transformers, default.
SPELLINGS = [
    ("lora_down.weight", "lora_up.weight"), ("lora.down.weight", "lora.up.weight"),
    ("lora_A.weight", "lora_B.weight"), ("lora_A", "lora_B"),
    ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    ("lora_A.default.weight", "lora_B.default.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("down", "up"), SPELLINGS)
@pytest.mark.parametrize("prefix", ["diffusion_model.", "model.diffusion_model.", ""])
@pytest.mark.parametrize("alpha", [None, 6.0])
def test_every_spelling_is_the_same_lora(tmp_path, down, up, prefix, alpha):
    tensors = {f"{prefix}{BLOCK}.{down}": A, f"{prefix}{BLOCK}.{up}": B}
    tensors |= {} if alpha is None else {f"{prefix}{BLOCK}.alpha": torch.tensor(alpha)}
    save_file(tensors, tmp_path / "a.safetensors", {"software": '{"name": "ai-toolkit"}'})
    lora = read_lora(tmp_path / "a.safetensors")
    assert list(lora) == [LAYER]
    torch.testing.assert_close(lora[LAYER].dense(), (1.0 if alpha is None else 3.0) * B @ A)
    assert (lora.provenance.writer, lora.provenance.outcome) == ("ai-toolkit", "exact")
    assert lora.provenance.format in ("comfy", "bfl", "original")


def test_wan_as_diffusers_converts_it(tmp_path):
    tensors = {}
    for path in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "cross_attn.q", "cross_attn.k",
                 "cross_attn.v", "cross_attn.o", "ffn.0", "ffn.2"):  # fmt: skip
        tensors |= {f"diffusion_model.blocks.0.{path}.lora_A.weight": torch.randn(2, 8),
                    f"diffusion_model.blocks.0.{path}.lora_B.weight": torch.randn(8, 2)}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    state = _convert_non_diffusers_wan_lora_to_diffusers(dict(tensors))
    assert {f"{name}.lora_A.weight" for name in lora} == {key for key in state if "lora_A" in key}
    for name, pair in lora.layers.items():
        expected = state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"]
        torch.testing.assert_close(pair.dense(), expected)


def control():
    """BFL's control LoRA for the depth that diffusers' converter insists on, with narrow layers."""
    h, tensors = 3072, {}
    shapes = {
        "img_in": (3, 2),
        "txt_in": (3, 2),
        "final_layer.linear": (2, 3),
        "final_layer.adaLN_modulation.1": (6, 3),
    }
    shapes |= {
        f"{x}.{y}": (3, 2)
        for x in ("time_in", "vector_in", "guidance_in")
        for y in ("in_layer", "out_layer")
    }
    for i in range(19):
        for s in ("img", "txt"):
            shapes |= {f"double_blocks.{i}.{s}_attn.qkv": (9, 3), f"double_blocks.{i}.{s}_attn.proj": (3, 3),
                       f"double_blocks.{i}.{s}_mlp.0": (12, 3), f"double_blocks.{i}.{s}_mlp.2": (3, 12),
                       f"double_blocks.{i}.{s}_mod.lin": (18, 3)}  # fmt: skip
            tensors |= {
                f"double_blocks.{i}.{s}_attn.norm.{x}_norm.scale": torch.randn(2)
                for x in ("key", "query")
            }
    for i in range(38):
        shapes |= {f"single_blocks.{i}.linear1": (7 * h, h), f"single_blocks.{i}.linear2": (3, 15),
                   f"single_blocks.{i}.modulation.lin": (9, 3)}  # fmt: skip
        tensors |= {
            f"single_blocks.{i}.norm.{x}_norm.scale": torch.randn(2) for x in ("key", "query")
        }
    for name, (n, m) in shapes.items():
        tensors |= {f"{name}.lora_A.weight": torch.randn(2, m), f"{name}.lora_B.weight": torch.randn(n, 2),
                    f"{name}.lora_B.bias": torch.randn(n)}  # fmt: skip
    return tensors


def test_control_loras_as_diffusers_converts_them(tmp_path):
    torch.manual_seed(0)
    tensors = control()
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    state = _convert_bfl_flux_control_lora_to_diffusers(dict(tensors))
    assert (lora.provenance.format, lora.provenance.outcome) == ("bfl", "exact")
    for key, expected in state.items():
        name = key.rpartition(".lora_")[0]
        if key.endswith("lora_B.weight"):
            assert torch.equal(lora[name].u, expected)
        elif key.endswith("lora_B.bias"):
            assert torch.equal(lora.side[f"{name}.lora_bias"].tensor, expected)
        elif key.endswith("lora_A.weight") and "norm_out" not in key:
            # diffusers swaps the rows of this A, too, which pairs them with the wrong columns of B
            assert torch.equal(lora[name].v.T, expected)
        elif "norm_" in key and "lora" not in key:
            assert torch.equal(lora.side[key].tensor, expected)
    assert len(lora) == sum(key.endswith("lora_A.weight") for key in state)
