"""XLabs' Flux LoRAs: the processors of the attention, q, k and v fused, factor 1.

double_blocks.0.processor.qkv_lora1.down.weight     _lora1 image stream, _lora2 text stream
single_blocks.0.processor.proj_lora.up.weight
"""

from lorascope.core.lora import LoRA
from lorascope.io.assemble import assemble
from lorascope.io.dialects.metadata import base_of, writer_of
from lorascope.io.tensors import TensorFile

__all__ = ["read_xlabs"]


def read_xlabs(file: TensorFile, where: str) -> LoRA:
    """Read an XLabs file. Raises FileError as `assemble` does."""
    assembly = assemble(file.tensors, where, "xlabs")
    return assembly.lora(file.metadata, base_of(file.metadata), writer_of(file.metadata))
