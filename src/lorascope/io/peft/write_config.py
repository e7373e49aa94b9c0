"""The table of adapter_config.json for a LoRA that is written.

The most common rank and alpha stand as r and lora_alpha, the others in rank_pattern and alpha_pattern. What
the configuration that the LoRA was read with says beyond that stays, except flags whose effect is already in
the factors: block-diagonal and pooled factors are written expanded, AdaLoRA as LoRA.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lorascope.core.lora import LoRA
from lorascope.io.peft.pattern import Patterns

__all__ = ["Rule", "make_config"]

SPENT = (
    "use_bdlora",
    "use_qalora",
    "qalora_group_size",
    "peft_version",
    # every layer is named in target_modules
    "layers_to_transform",
    "layers_pattern",
    "exclude_modules",
)
# What of AdaLoRA's configuration holds for a LoRA.
LASTING = (
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "fan_in_fan_out",
    "modules_to_save",
    "revision",
    "task_type",
)
MAX_CHECKS = 10_000_000  # pairs of rule and path that are worth a look before rules are anchored


class Rule(NamedTuple):
    """Rank and alpha of one module, or of one parameter of it ("" for an ordinary layer)."""

    path: str
    module: str
    parameter: str
    rank: int
    alpha: float


def make_config(
    lora: LoRA, rules: Sequence[Rule], base: str | None, *, rslora: bool
) -> dict[str, Any]:
    """The table for adapter_config.json, as plain data."""
    config = _start(lora)
    kinds = [side.kind for side in lora.side.values()]
    rank = _usual([rule.rank for rule in rules], config.get("r"))
    alpha = _usual([rule.alpha for rule in rules], config.get("lora_alpha"))
    modules = {rule.module for rule in rules if not rule.parameter}
    config |= {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": _plain(alpha),
        "rank_pattern": _patterns({rule.path: rule.rank for rule in rules}, rank),
        "alpha_pattern": _patterns(
            {rule.path: _plain(rule.alpha) for rule in rules}, _plain(alpha)
        ),
        "use_rslora": rslora,
        "use_dora": "dora_magnitude" in kinds,
        "lora_bias": "lora_bias" in kinds,
        "bias": _bias(lora, config.get("bias"), modules),
        # a module inside an adapted one comes with it
        "target_modules": sorted(module for module in modules if not _inside(module, modules)),
        "target_parameters": sorted(_target(rule) for rule in rules if rule.parameter) or None,
        "inference_mode": True,
    }
    if "modules_to_save" not in config:
        config["modules_to_save"] = _saved(lora)
    return config


def _start(lora: LoRA) -> dict[str, Any]:
    """What holds of the configuration that the LoRA was read with."""
    read = lora.provenance.config if lora.provenance.format == "peft" else {}
    if read.get("peft_type", "LORA") != "LORA":
        return {name: read[name] for name in LASTING if name in read}
    return {name: value for name, value in read.items() if name not in SPENT}


def _usual(values: Sequence[float], before: object) -> Any:
    """The most common value; among equals the one used before, else the first."""
    counts = Counter(values)
    most = max(counts.values())
    common = [value for value in counts if counts[value] == most]
    return before if before in common else common[0]


def _plain(alpha: float) -> float | int:
    return int(alpha) if float(alpha).is_integer() else float(alpha)


def _patterns(values: Mapping[str, Any], usual: Any) -> dict[str, Any]:
    """The rules for the paths that differ from the usual value: plain paths, where these hit nothing else."""
    # sorted, because peft sorts when it saves and the first match wins
    table = {path: values[path] for path in sorted(values) if values[path] != usual}
    if len(table) * len(values) <= MAX_CHECKS:
        plain = Patterns(table, "rules", "memory")
        found = {path: plain.match(path) for path in values}
        if all((usual if found[path] is None else found[path]) == values[path] for path in values):
            return table
    return {f"^{re.escape(path)}": value for path, value in table.items()}


def _target(rule: Rule) -> str:
    return f"{rule.module}.{rule.parameter}"


def _inside(module: str, modules: set[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:length]) in modules for length in range(1, len(parts)))


def _bias(lora: LoRA, before: object, modules: set[str]) -> str:
    owners = {name.rpartition(".")[0] for name, side in lora.side.items() if side.kind == "bias"}
    if not owners:
        return "none"
    if before in ("all", "lora_only"):
        return str(before)
    return "lora_only" if owners <= modules else "all"


def _saved(lora: LoRA) -> list[str] | None:
    """Modules whose tensors are replaced."""
    found = {name.rpartition(".")[0] for name, side in lora.side.items() if side.kind == "full"}
    return sorted(found - {""}) or None
