"""diffusers' grammars, old and new.

    [unet.]M.attn1.processor.to_q_lora.down.weight     attention processors (to_out_lora is to_out.0)
    unet.M.to_q.lora.down.weight                       UNet
    text_encoder.M.q_proj.lora_linear_layer.down.weight
    transformer.M.to_q.lora_A.weight                   Flux, SD3 and all later ones, [lora_B.bias]

The metadata `lora_adapter_metadata` holds each component's LoraConfig, its fields with the component in front;
then the rule is PEFT's. Without it alpha counts as r, the factor is 1. Source: diffusers 0.42.1,
loaders/lora_base.py, utils/peft_utils.py.
"""

from collections.abc import Mapping
from typing import Any

from lorascope.core.lora import LoRA, Scale
from lorascope.errors import FormatError
from lorascope.io.assemble import ScaleRule, assemble
from lorascope.io.dialects.metadata import base_of, writer_of
from lorascope.io.header import parse_json
from lorascope.io.peft.config import PeftConfig
from lorascope.io.tensors import TensorFile

__all__ = ["METADATA", "read_diffusers"]

METADATA = "lora_adapter_metadata"
COMPONENTS = (
    "unet",
    "transformer_2",
    "transformer",
    "text_encoder_3",
    "text_encoder_2",
    "text_encoder",
)


def read_diffusers(file: TensorFile, where: str) -> LoRA:
    """Read a file of diffusers. Raises FormatError if its metadata is no table, else as `assemble` does."""
    configs = _configs(file.metadata, where)
    assembly = assemble(file.tensors, where, "diffusers", _scales(configs) if configs else None)
    for component, config in configs.items():
        assembly.ambiguities.extend(f"{line} ({component})" for line in config.ambiguities())
        assembly.notes.extend(f"{line} ({component})" for line in config.notes())
    metadata = {key: value for key, value in file.metadata.items() if key != METADATA}
    return assembly.lora(metadata, base_of(file.metadata), writer_of(file.metadata))


def _configs(metadata: Mapping[str, str], where: str) -> dict[str, PeftConfig]:
    text = metadata.get(METADATA)
    if text is None:
        return {}
    table = parse_json(text.encode(), f"{METADATA} of {where}")
    if not isinstance(table, dict):
        raise FormatError(f"Reading {where!r}: its {METADATA} is no table.")
    fields: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        component = next((name for name in COMPONENTS if key.startswith(f"{name}.")), None)
        if component is not None:
            fields.setdefault(component, {})[key.removeprefix(f"{component}.")] = value
    return {
        component: PeftConfig({"peft_type": "LORA", **data}, where)
        for component, data in fields.items()
    }


def _scales(configs: Mapping[str, PeftConfig]) -> ScaleRule:
    def scale_of(layer: str, rank: int) -> Scale | None:
        component, _, path = layer.partition(".")
        config = configs.get(component)
        return config.scale_of(path, rank) if config is not None and rank else None

    return scale_of
