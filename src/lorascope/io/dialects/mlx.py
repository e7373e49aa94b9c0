"""MLX adapters: adapters.safetensors and adapter_config.json; factors transposed, `scale` used as it is.

    M.lora_a (m, r)   M.lora_b (r, n)   [M.m (n,) of DoRA]         update = scale (lora_a lora_b)^T
    M.lora_a (e, r, m)   M.lora_b (e, n, r)                        experts, each a layer M.e

fine_tune_type "full": whole weights, no adapter. Without the configuration the scale is unknown. Source:
mlx-lm 0.32.2, tuner/lora.py, tuner/dora.py, tuner/utils.py.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lorascope.core.lora import LoRA, Scale, Side
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.assemble import Assembly
from lorascope.io.header import MAX_TENSORS
from lorascope.io.modules import Parts, build_module
from lorascope.io.modules.parts import Built
from lorascope.io.names import Place
from lorascope.io.tensors import TensorFile

__all__ = ["is_mlx_config", "read_mlx"]

SLOTS = {"lora_a": "down", "lora_b": "up", "m": "dora"}


def is_mlx_config(config: Mapping[str, Any]) -> bool:
    """Whether an adapter_config.json is MLX's."""
    return "peft_type" not in config and bool({"fine_tune_type", "lora_parameters"} & set(config))


def read_mlx(file: TensorFile, config: Mapping[str, Any], where: str) -> LoRA:
    """Read an MLX adapter.

    Raises:
        FormatError: a half is missing, shapes do not fit, the scale is no number.
        HostileFileError: more experts than tensors may be.
    """
    assembly = Assembly(where, "mlx")
    if config.get("fine_tune_type") == "full":
        for key, tensor in file.tensors.items():
            assembly.add_side(key, Side("full", tensor))
        assembly.notes.append("full: fine_tune_type is full; the file holds whole weights")
    else:
        _read_factors(assembly, file.tensors, _scale(config, where))
    if "scale" not in _parameters(config) and assembly.layers:
        assembly.ambiguities.append(
            "scale: no lora_parameters.scale beside the weights; the factors are read with scale 1"
        )
    base = config.get("model") or None
    return assembly.lora(config, base if isinstance(base, str) else None, "mlx-lm")


def _read_factors(assembly: Assembly, tensors: Mapping[str, Tensor], factor: float | None) -> None:
    modules: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        module, _, ending = key.rpartition(".")
        if ending in SLOTS and module:
            modules.setdefault(module, {})[SLOTS[ending]] = tensor
        else:
            assembly.add_side(key, Side("native", tensor))
            unknown.append(key)
    for module, slots in modules.items():
        for name, part in _layers(module, slots, assembly.where).items():
            rank = part["down"].shape[0] if "down" in part and part["down"].ndim else 1
            scale = Scale(None, rank, 1.0 if factor is None else factor, "scale")
            built = build_module(Parts(name, part, assembly.where, scale))
            kind = "expert" if name != module else None
            assembly.add_module(
                Place((name,)),
                Built(built.pair, built.scale, built.side, kind, built.notes, built.left),
            )
    if unknown:
        assembly.left.append(
            f"unknown: {len(unknown)} tensors of no known meaning are kept beside, such as {unknown[0]!r:.120}"
        )


def _layers(module: str, slots: Mapping[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """The factors as (r, m) and (n, r), experts apart."""
    down, up = slots.get("down"), slots.get("up")
    if down is None or up is None or down.ndim != 3:
        turned = {
            slot: t.T if slot in ("down", "up") and t.ndim == 2 else t for slot, t in slots.items()
        }
        return {module: turned}
    if up.ndim != 3 or up.shape[0] != down.shape[0] or len(slots) > 2:
        raise FormatError(
            f"Reading layer {module!r} of {where!r}: lora_a is {list(down.shape)} and lora_b is "
            f"{list(up.shape)}, expected (experts, r, m) and (experts, n, r)."
        )
    if down.shape[0] > MAX_TENSORS:
        raise HostileFileError(f"Reading layer {module!r} of {where!r}: too many experts.")
    return {f"{module}.{e}": {"down": down[e], "up": up[e]} for e in range(down.shape[0])}


def _parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = config.get("lora_parameters")
    return parameters if isinstance(parameters, dict) else {}


def _scale(config: Mapping[str, Any], where: str) -> float | None:
    scale = _parameters(config).get("scale")
    if scale is None:
        return None
    if type(scale) not in (int, float) or not abs(scale) <= 1e30:
        raise FormatError(
            f"Reading {where!r}: lora_parameters.scale is {scale!r:.60}, expected a finite number."
        )
    return float(scale)
