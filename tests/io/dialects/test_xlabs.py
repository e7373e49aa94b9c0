"""XLabs' Flux files as diffusers converts and loads them."""

import torch
from diffusers.loaders.lora_conversion_utils import _convert_xlabs_flux_lora_to_diffusers
from safetensors.torch import save_file

from lorascope.io import read_lora
from tests.io.networks import flux, load_adapter, same

SHAPES = {"double_blocks.0.processor.qkv_lora1": (48, 16), "double_blocks.0.processor.qkv_lora2": (48, 16),
          "double_blocks.1.processor.proj_lora1": (16, 16), "double_blocks.1.processor.proj_lora2": (16, 16),
          "single_blocks.1.processor.qkv_lora": (48, 16),
          "single_blocks.0.processor.proj_lora": (16, 80)}  # fmt: skip


def test_fused_processors(tmp_path):
    tensors = {}
    for name, (n, m) in SHAPES.items():
        tensors |= {
            f"{name}.down.weight": torch.randn(2, m),
            f"{name}.up.weight": torch.randn(n, 2),
        }
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    same(lora, load_adapter(flux(), _convert_xlabs_flux_lora_to_diffusers(dict(tensors))))
    assert (lora.provenance.format, lora.provenance.outcome) == ("xlabs", "exact")
