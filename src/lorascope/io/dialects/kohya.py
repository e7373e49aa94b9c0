"""kohya's grammar: sd-scripts, musubi-tuner, LyCORIS, OneTrainer (KOHYA and LEGACY), Wan-Fun.

    PREFIX_MODULE.lora_down.weight (r, in[, k, k])   .lora_up.weight (out, r[, 1, 1])   .alpha ()
    PREFIX = lora_unet lora_te lora_te1 lora_te2 lora_te3 lora_transformer lora_unet_ (Wan-Fun) lycoris

MODULE has underscores for dots. factor = alpha/r, 1 without an alpha; ranks differ from block to block.
LyCORIS' algorithms come under the same grammar, module by module. Source: sd-scripts 48d368fa, networks/.

Flux' split_qkv trains n LoRAs of rank r and saves them as one of rank n r with a block-sparse up and the same
alpha: at training the factor was alpha/r, every reader afterwards (sd-scripts', too) takes alpha/(n r).
"""

from collections.abc import Mapping

from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.io.assemble import Assembly, assemble
from lorascope.io.dialects.metadata import base_of, network_arguments, writer_of
from lorascope.io.tensors import TensorFile

__all__ = ["read_kohya", "read_lycoris"]


def read_kohya(file: TensorFile, where: str) -> LoRA:
    """Read a file of kohya's grammar. Raises FileError as `assemble` does."""
    return _read(file.tensors, file.metadata, where, "kohya")


def read_lycoris(file: TensorFile, where: str) -> LoRA:
    """Read a file of kohya's grammar that holds LyCORIS' algorithms or carries its prefix."""
    return _read(file.tensors, file.metadata, where, "lycoris")


def _read(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], where: str, format: str
) -> LoRA:
    assembly = assemble(tensors, where, format)
    _report_split(assembly, metadata)
    return assembly.lora(metadata, base_of(metadata), writer_of(metadata))


def _report_split(assembly: Assembly, metadata: Mapping[str, str]) -> None:
    """Say which scales a block-sparse fused layer may have."""
    asked = str(network_arguments(metadata).get("split_qkv", "")).lower() == "true"
    if not assembly.sparse:
        return
    count, first = len(assembly.sparse), assembly.sparse[0]
    factor = assembly.factors[first]
    if not asked:
        assembly.notes.append(
            f"split: {count} fused layers such as {first!r} are block-sparse and were cut into their pieces"
        )
        return
    assembly.ambiguities.append(
        f"split_qkv: {count} fused layers such as {first!r} were trained as separate LoRAs: the factor was "
        f"alpha/r of a piece ({factor * 3:g}, or {factor * 4:g} where there are four); for every reader of the "
        f"file it is alpha/r of all pieces ({factor:g}), which is taken here"
    )
