"""adapter_config.json: the scale of each layer, and the flags that change what tensors mean.

    alpha/r           LoRA                        factor = lora_alpha / r
    alpha/sqrt(r)     use_rslora                  factor = lora_alpha / sqrt(r)
    alpha/(r+1e-5)    AdaLoRA, r = init_r         factor = (lora_alpha or init_r) / (init_r + 1e-5)
    1 (no config)     nothing beside the tensors  factor = 1, an ambiguity
    alpha/r           LoHa, LoKr                  factor = alpha / r

alpha comes from alpha_pattern, else lora_alpha; r from the tensors. Source: peft 0.21.2, tuners/lora/layer.py,
tuners/adalora/layer.py. This file reads no tensors; what a flag does to them is in adapter.py.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorascope.core.lora import Scale
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.header import open_regular, parse_json
from lorascope.io.peft.pattern import Patterns

__all__ = ["NO_CONFIG", "PeftConfig", "read_config", "read_table"]

MAX_CONFIG_BYTES = 16 * 2**20
NO_CONFIG = "1 (no config)"

KINDS = ("LORA", "ADALORA", "LOHA", "LOKR")
# Why an adapter of another kind is refused: what it needs beyond this reader.
OTHER_KINDS: Mapping[str, str] = {
    "GLORA": "scales of the base weight beside a pair",
    "VERA": "pairs that share two projections, which are rebuilt from a seed",
    "PVERA": "pairs that share two projections, which are rebuilt from a seed",
    "RANDLORA": "random bases that are rebuilt from a seed",
    "VBLORA": "pairs assembled from a bank of vectors",
    "UNILORA": "pairs assembled from one shared vector by a seed",
    "TINYLORA": "singular vectors of the base weight",
    "PSOFT": "singular vectors of the base weight",
    "MISS": "a shard repeated over the inputs",
    "GRALORA": "a grid of small pairs",
    "HIRA": "a product with the base weight",
    "DELORA": "a norm of the base weight",
    "OFT": "a rotation of the base weight",
    "BOFT": "a rotation of the base weight",
    "HRA": "a reflection of the base weight",
    "ROAD": "a rotation of the outputs",
    "IA3": "a scaling of the activations",
    "LN_TUNING": "whole layer norms",
    "FOURIERFT": "coefficients of a Fourier transform, not of low rank",
    "WAVEFT": "coefficients of a wavelet transform, not of low rank",
    "C3A": "a circular convolution, not of low rank",
    "SHIRA": "a sparse update, not of low rank",
    "XLORA": "a mixture of other adapters",
    "POLY": "a mixture of pairs that depends on the task",
    "TRAINABLE_TOKENS": "rows of the embedding",
    "PROMPT_TUNING": "a prompt",
    "MULTITASK_PROMPT_TUNING": "a prompt",
    "P_TUNING": "a prompt",
    "PREFIX_TUNING": "a prefix of keys and values",
    "ADAPTION_PROMPT": "a prompt inside attention",
    "CPT": "a prompt",
}

CHANGED_BASES = ("pissa", "olora", "corda", "lora_ga", "loftq")
PLAIN_INITS = ("true", "false", "gaussian", "eva", "orthogonal", "mica")


class PeftConfig:
    """The configuration beside the weights, or its absence.

    Args:
        data: the table, None if there is no file.
        where: the file, for messages.

    Raises:
        FormatError: it is of another program, of another kind of adapter, or holds a nonsensical value.
    """

    def __init__(self, data: Mapping[str, Any] | None, where: str) -> None:
        self.present = data is not None
        self.data: Mapping[str, Any] = dict(data or {})
        self.where = where
        self._check_kind()
        self.adalora = self.data.get("peft_type") == "ADALORA"
        # AdaLoRA's rank_pattern is no pattern: it maps each layer to a mask of the ranks it kept
        ranks = {} if self.adalora else self._table("rank_pattern")
        self._ranks = Patterns(ranks, "rank_pattern", where)
        self._alphas = Patterns(self._table("alpha_pattern"), "alpha_pattern", where)

    @property
    def base(self) -> str | None:
        """Identity of the base model."""
        base = self.data.get("base_model_name_or_path")
        return base if isinstance(base, str) and base else None

    @property
    def version(self) -> tuple[int, ...] | None:
        """Version of peft that wrote it (kept since 0.18), None if unknown."""
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", str(self.data.get("peft_version") or ""))
        return tuple(int(part) for part in found.groups()) if found else None

    def flag(self, name: str) -> bool:
        """Whether a flag or a sub-configuration is set."""
        return bool(self.data.get(name))

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names, empty if absent. Raises FormatError if it holds anything else."""
        value = self.data.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, value, "a list of names")
        return tuple(value)

    def table(self, name: str) -> Mapping[str, Any]:
        """A sub-configuration, empty if absent. Raises FormatError if it is no table."""
        return self._table(name)

    def count(self, name: str, default: int, most: int) -> int:
        """A whole number from 1. Raises FormatError for anything else, HostileFileError above `most`."""
        value = self.data.get(name, default)
        return self._natural(name, default if value is None else value, most)

    def rank_of(self, layer: str) -> int | None:
        """The rank that the configuration gives a layer, None without one."""
        rank = self._ranks.match(layer)
        rank = self.data.get("init_r" if self.adalora else "r") if rank is None else rank
        return None if rank is None else self._natural("r", rank, 2**31)

    def scale_of(self, layer: str, rank: int) -> Scale:
        """The scale of a layer of that rank (of its tensors; AdaLoRA divides by init_r instead)."""
        if not self.present:
            return Scale(None, rank, 1.0, NO_CONFIG)
        alpha = self._alphas.match(layer)
        if alpha is None:
            alpha = self.data.get(self._alpha_name, 8)  # peft's default
        alpha = self._number(self._alpha_name, alpha)
        if self.adalora:
            start = self.count("init_r", 12, 2**31)
            return Scale(
                alpha, start, (alpha if alpha > 0 else start) / (start + 1e-5), "alpha/(r+1e-5)"
            )
        if self.flag("use_rslora"):
            return Scale(alpha, rank, alpha / math.sqrt(rank), "alpha/sqrt(r)")
        return Scale(alpha, rank, alpha / rank, "alpha/r")

    def ambiguities(self) -> tuple[str, ...]:
        """What the configuration leaves open about the whole file."""
        found = []
        if not self.present:
            found.append(
                "scale: no adapter_config.json beside the weights, so alpha and rsLoRA are unknown; "
                "the factors are read with scale 1"
            )
        elif self._alpha_name not in self.data:
            found.append(
                f"scale: the configuration has no {self._alpha_name}; peft's default of 8 is assumed"
            )
        if self.present and "peft_type" not in self.data:
            found.append("kind: the configuration has no peft_type; LoRA is assumed")
        init = self._init
        if self.present and not init.startswith((*CHANGED_BASES, *PLAIN_INITS)):
            found.append(
                f"init: init_lora_weights is {init!r:.40}, which may change the base weights"
            )
        if self.flag("use_qalora"):
            found.append(
                "qalora: pooled inputs are assumed for every linear layer; a layer that was not quantised "
                "has none"
            )
        return tuple(found)

    def notes(self) -> tuple[str, ...]:
        """Flags that change what the update stands for, as facts."""
        found = []
        if self._init.startswith(CHANGED_BASES):
            found.append(
                f"base_changed: init_lora_weights is {self._init!r:.40}: the update is relative to base "
                "weights that the initialisation changed, not to the published ones"
            )
        if self.flag("kasa_config"):
            found.append(
                "base_changed: KaSA removed the smallest singular values of the base weights"
            )
        for name, meaning in FLAGS.items():
            if self.flag(name):
                found.append(f"{name}: {meaning}")
        return tuple(found)

    @property
    def _alpha_name(self) -> str:
        return "alpha" if self.data.get("peft_type") in ("LOHA", "LOKR") else "lora_alpha"

    @property
    def _init(self) -> str:
        return str(self.data.get("init_lora_weights", True)).lower()

    def _check_kind(self) -> None:
        if "peft_type" not in self.data and (
            {"fine_tune_type", "lora_parameters"} & set(self.data)
        ):
            raise FormatError(
                f"Reading {self.where!r}: it is a configuration of MLX, but the weights beside it are PEFT's."
            )
        kind = self.data.get("peft_type", "LORA")
        if kind not in KINDS:
            reason = OTHER_KINDS.get(str(kind), "unknown to this version")
            raise FormatError(
                f"Reading {self.where!r}: its peft_type is {kind!r:.40} ({reason}), expected "
                f"{', '.join(KINDS)}. Try: convert it with peft.convert_to_lora on its base model."
            )
        if self.flag("enable_lora"):
            raise FormatError(
                f"Reading {self.where!r}: enable_lora marks a MergedLinear adapter of peft 0.2, whose "
                "B is grouped by q, k and v; peft itself no longer reads it. Try: merge it with peft 0.2."
            )

    def _table(self, name: str) -> Mapping[str, Any]:
        value = self.data.get(name) or {}
        if not isinstance(value, dict):
            raise self._wrong(name, value, "a table")
        return value

    def _natural(self, name: str, value: Any, most: int) -> int:
        if type(value) is not int or value < 1:
            raise self._wrong(name, value, "a whole number from 1")
        if value > most:
            raise HostileFileError(
                f"Reading {self.where!r}: {name} is {value}, expected at most {most}."
            )
        return value

    def _number(self, name: str, value: Any) -> float:
        if type(value) not in (int, float) or not abs(value) <= 1e30:
            raise self._wrong(name, value, "a finite number")
        return float(value)

    def _wrong(self, name: str, value: object, expected: str) -> FormatError:
        return FormatError(f"Reading {self.where!r}: {name} is {value!r:.60}, expected {expected}.")


FLAGS: Mapping[str, str] = {
    "use_dora": "u v^T is the direction part; the magnitudes act on the base weights",
    "layer_replication": "layers of the base model were repeated; names count the repeated layers",
    "alora_invocation_tokens": "the update acts only after the invocation tokens",
    "megatron_config": "trained with Megatron, whose shards must be gathered",
    "monteclora_config": "trained with sampled noise on A; the samplers are kept beside",
    "velora_config": "trained with compressed activations; its projections are kept beside",
    "arrow_config": "routed among several adapters; this is one of them",
    "use_qalora": "A is expanded over the groups of pooled inputs",
    "use_bdlora": "block-diagonal factors are expanded",
    "trainable_token_indices": "rows of the embedding were trained; they are kept beside",
}


def read_config(path: Path) -> PeftConfig:
    """Read adapter_config.json.

    Raises:
        FormatError: it is no JSON table, or a configuration that this reader cannot follow.
        HostileFileError: it exceeds a cap or holds a pattern that could take for ever.
    """
    return PeftConfig(read_table(path), str(path))


def read_table(path: Path) -> dict[str, Any]:
    """A JSON table from a file. Raises FormatError if it is none, HostileFileError above the cap."""
    where = str(path)
    with open_regular(path) as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    if len(raw) > MAX_CONFIG_BYTES:
        raise HostileFileError(f"Reading {where!r}: it has more than {MAX_CONFIG_BYTES} bytes.")
    data = parse_json(raw, where)
    if not isinstance(data, dict):
        raise FormatError(
            f"Reading {where!r}: it is a JSON {type(data).__name__}, expected a table."
        )
    return data
