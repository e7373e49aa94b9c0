"""A base wrapped by PEFT, whatever the base: what the oracles of both engines (`alone.py`) share."""

from typing import Any

import torch
from torch import nn

from lorascope.zoo.engine.adapter_spec import AdapterSpec

__all__ = ["adapted_layers", "device_of", "wrap"]


def wrap(base: nn.Module, spec: AdapterSpec, **own: Any) -> Any:
    """Wrap a base with PEFT (in place: `unload()` gives it back).

    Args:
        own: what of PEFT's LoraConfig no spec says.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        use_rslora=spec.rslora,
        use_dora=spec.dora,
        rank_pattern=dict(spec.rank_pattern),
        alpha_pattern=dict(spec.alpha_pattern),
        target_modules=list(spec.targets),
        **own,
    )
    return get_peft_model(base, config, autocast_adapter_dtype=False)


def adapted_layers(model: Any) -> dict[str, Any]:
    """PEFT's LoRA modules by the name of the layer that they adapt, in the model's order."""
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def device_of(model: nn.Module) -> torch.device:
    """Where a model lies, and trains."""
    return next(model.parameters()).device
