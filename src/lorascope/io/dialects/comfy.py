"""Dotted names of the original models: ComfyUI's generic grammar, ai-toolkit, OneTrainer, BFL.

    diffusion_model.MODULE.lora_A.weight      text_encoders.clip_l.transformer.MODULE.lora_A.weight
    MODULE.lora_down.weight  MODULE.lora_A  MODULE.lora.down.weight ..          (ComfyUI's seven spellings)
    double_blocks.0.img_attn.qkv.lora_A.weight  .lora_B.bias  norm.key_norm.scale        (BFL's control LoRAs)

factor = alpha/r where the file has an alpha, else 1. Source: ComfyUI, comfy/lora.py (2025-10);
ai-toolkit (2026-08). OneTrainer's layouts COMFY and ORIGINAL are among these.
"""

from lorascope.core.lora import LoRA
from lorascope.io.assemble import assemble
from lorascope.io.dialects.metadata import base_of, writer_of
from lorascope.io.tensors import TensorFile

__all__ = ["read_bfl", "read_comfy", "read_original"]


def read_comfy(file: TensorFile, where: str) -> LoRA:
    """Read a file with ComfyUI's prefixes."""
    return _read(file, where, "comfy")


def read_bfl(file: TensorFile, where: str) -> LoRA:
    """Read a file with the names of Black Forest Labs' Flux and no prefix."""
    return _read(file, where, "bfl")


def read_original(file: TensorFile, where: str) -> LoRA:
    """Read a file with the names of another original model and no prefix."""
    return _read(file, where, "original")


def _read(file: TensorFile, where: str, format: str) -> LoRA:
    assembly = assemble(file.tensors, where, format)
    return assembly.lora(file.metadata, base_of(file.metadata), writer_of(file.metadata))
