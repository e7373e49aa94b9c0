"""What the metadata of image LoRAs says about their writer and base model. Hostile text, kept as it is."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["base_of", "network_arguments", "writer_of"]

MODULES = (("lycoris", "LyCORIS"), ("networks.lora_", "sd-scripts or musubi-tuner"),
           ("networks.", "sd-scripts"))  # fmt: skip


def writer_of(metadata: Mapping[str, str]) -> str | None:
    """The program that wrote the file, None if the metadata does not say."""
    software = _table(metadata.get("software"))
    if software.get("name"):
        return str(software["name"])
    if any(key.startswith("ot_") for key in metadata):
        return "OneTrainer"
    module = metadata.get("ss_network_module", "")
    found = next((name for start, name in MODULES if module.startswith(start)), None)
    return found or metadata.get("writer")


def base_of(metadata: Mapping[str, str]) -> str | None:
    """The base model by the name that the trainer knew it under."""
    return metadata.get("ss_sd_model_name") or metadata.get("ss_base_model_version") or None


def network_arguments(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """`ss_network_args`, empty if it is absent or no table."""
    return _table(metadata.get("ss_network_args"))


def _table(text: str | None) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
