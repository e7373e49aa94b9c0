"""kohya's grammar: sd-scripts, musubi-tuner, LyCORIS, OneTrainer (KOHYA and LEGACY), Wan-Fun.

    PREFIX_MODULE.lora_down.weight (r, in[, k, k])   .lora_up.weight (out, r[, 1, 1])   .alpha ()
    PREFIX = lora_unet lora_te lora_te1 lora_te2 lora_te3 lora_transformer lora_unet_ (Wan-Fun) lycoris

MODULE has underscores for dots. factor = alpha/r, 1 without an alpha; ranks differ from block to block.
LyCORIS' algorithms come under the same grammar, module by module. Source: sd-scripts 48d368fa, networks/.

Flux' split_qkv trains n LoRAs of rank r and saves them as one of rank n r with a block-sparse up and the same
alpha: at training the factor was alpha/r, every reader afterwards (sd-scripts', too) takes alpha/(n r).
"""

import json
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lorascope.core import LoRA, LowRank
from lorascope.io.assemble import Assembly, assemble
from lorascope.io.dialects.kohya_modules import ABSENT
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
    _leave_out(assembly, metadata)
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
        _scale_pieces(assembly)
        return
    assembly.ambiguities.append(
        f"split_qkv: {count} fused layers such as {first!r} were trained as separate LoRAs: the factor was "
        f"alpha/r of a piece ({factor * 3:g}, or {factor * 4:g} where there are four); for every reader of the "
        f"file it is alpha/r of all pieces ({factor:g}), which is taken here"
    )


def _scale_pieces(assembly: Assembly) -> None:
    """alpha and rank of a piece instead of those of all pieces; their quotient is the same."""
    for name, scale in assembly.scales.items():
        rank = assembly.layers[name].rank if name in assembly.layers else 0
        if scale.alpha is not None and rank and scale.rank in (3 * rank, 4 * rank):
            assembly.scales[name] = replace(scale, alpha=scale.alpha * rank / scale.rank, rank=rank)


def _leave_out(assembly: Assembly, metadata: Mapping[str, str]) -> None:
    """Layers that are zeros and that the metadata name as such: they only fill a fused matrix."""
    try:
        named = json.loads(metadata.get(ABSENT, "[]"))
    except (ValueError, RecursionError):
        return
    layers = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    zeros = [
        name
        for name in layers
        if isinstance(pair := assembly.layers.get(name), LowRank) and not bool(pair.u.any())
    ]
    for name in zeros:
        del assembly.layers[name]
        assembly.scales.pop(name, None)
        assembly.kinds.pop(name, None)
    if zeros:
        assembly.notes.append(
            f"absent: {len(zeros)} layers such as {zeros[0]!r} are zeros that fill fused matrices and were "
            "left out"
        )
