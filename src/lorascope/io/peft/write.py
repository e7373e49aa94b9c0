"""A `LoRA` -> the tensors and the configuration of a PEFT folder, such that peft loads the same update.

    A = v^T    B = u / factor    r = rank    lora_alpha = the raw alpha if provenance has it, else r

The inverse of adapter.py: layers of kind "embedding", "expert" and "parameter" go back to where PEFT has them,
and so do side tensors. The configuration is made in write_config.py; files are written in write.py.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lorascope.core.lora import LoRA, Side
from lorascope.core.low_rank import LowRank
from lorascope.errors import FormatError
from lorascope.io.peft.keys import PREFIX, WRAPPER, parse_key
from lorascope.io.peft.moe import nesting_order
from lorascope.io.peft.write_config import Rule, make_config

__all__ = ["to_peft"]


@dataclass(frozen=True, eq=False)
class _Entry:
    """What one module's A and B hold: one layer, or all experts of one parameter.

    `path` is what peft's rules match, `module` where the tensors sit (without wrappers).
    """

    path: str
    module: str
    parameter: str
    layers: tuple[str, ...]
    pairs: tuple[LowRank, ...]
    alpha: float
    factor: float

    @property
    def rank(self) -> int:
        return self.pairs[0].rank

    def outer(self, pair: LowRank) -> Tensor:  # (n, r)
        """u without the scale, in the type of the pair."""
        if self.factor == 1.0:
            return pair.u
        wide = pair.u.to(torch.promote_types(pair.dtype, torch.float32))
        # a factor of 0 has left zeros, and nothing to divide them by
        return (wide / (self.factor or 1.0)).to(pair.dtype)


def to_peft(lora: LoRA, base: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by key, and the table of adapter_config.json.

    Args:
        lora: with at least one layer.
        base: identity of the base model; by default that of the provenance.

    Raises:
        FormatError: it has no layer, a name or a side tensor has no place in PEFT, or a stack of experts has
            gaps.
    """
    if not len(lora):
        raise FormatError("Writing a LoRA as PEFT: it has no layers, expected at least one.")
    wrapped = next((name for name in lora if "base_layer" in name.split(".")), None)
    if wrapped is not None:
        raise FormatError(
            f"Writing a LoRA as PEFT: the layer {wrapped!r} is named after PEFT's own wrapper and would read "
            "as a stack of experts. Expected the name of the wrapped module. Try: rename the layer."
        )
    rslora = _uses_rslora(lora)
    entries = [_entry(lora, names, rslora=rslora) for names in _grouped(lora)]
    entries = _inherited(entries)
    spelled = _spelled(entries)
    by_layer = {name: entry for entry in entries for name in entry.layers}
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        tensors.update(_factors(lora, entry, PREFIX + spelled[entry.path]))
    for name, side in lora.side.items():
        key, tensor = _placed(lora, name, side, by_layer, spelled)
        tensors[PREFIX + key] = tensor
    _fill_biases(tensors)
    rules = [Rule(e.path, e.module, e.parameter, e.rank, e.alpha) for e in entries]
    return tensors, make_config(lora, rules, base or lora.provenance.base, rslora=rslora)


def _uses_rslora(lora: LoRA) -> bool:
    """The rule is one for the whole file: rsLoRA if every known scale has it."""
    rules = {scale.rule for scale in lora.provenance.scales.values() if scale.alpha is not None}
    return rules == {"alpha/sqrt(r)"}


def _grouped(lora: LoRA) -> list[tuple[str, ...]]:
    """The layers, experts of one parameter together in their order."""
    groups: dict[str, list[str]] = {}
    for name in lora:
        expert = lora.provenance.kinds.get(name) == "expert"
        groups.setdefault(name.rpartition(".")[0] + "." if expert else name, []).append(name)
    for path, names in groups.items():
        if not path.endswith("."):
            continue
        names.sort(key=lambda name: int(name.rpartition(".")[2]))
        expected = [f"{path}{expert}" for expert in range(len(names))]
        if names != expected or len({(lora[name].shape, lora[name].rank) for name in names}) > 1:
            raise FormatError(
                f"Writing the experts {path[:-1]!r} as PEFT: found {len(names)} layers from {names[0]!r} to "
                f"{names[-1]!r}, expected all experts from 0 on, of one shape and rank: PEFT stacks them."
            )
    return [tuple(names) for names in groups.values()]


def _entry(lora: LoRA, names: tuple[str, ...], *, rslora: bool) -> _Entry:
    # peft knows no rank 0: a column of zeros is the same update
    pairs = tuple(pair if pair.rank else pair.pad(1) for pair in map(lora.pair, names))
    rank = pairs[0].rank
    divisor = math.sqrt(rank) if rslora else float(rank)
    alphas = {_raw_alpha(lora, name, rank, rslora=rslora) for name in names}
    alpha = alphas.pop() if len(alphas) == 1 else None
    kind = lora.provenance.kinds.get(names[0])
    path, module, parameter = names[0], names[0], ""
    if kind == "expert":
        path = names[0].rpartition(".")[0]
        module, _, parameter = path.rpartition(".")
    elif kind == "parameter":
        module, parameter = _owner(lora, names[0])
        path = f"{module}.{parameter}"
    if alpha is None:
        return _Entry(path, module, parameter, names, pairs, divisor, 1.0)
    return _Entry(path, module, parameter, names, pairs, alpha, alpha / divisor)


def _raw_alpha(lora: LoRA, name: str, rank: int, *, rslora: bool) -> float | None:
    """The alpha that gives back the factor in u under the file's rule, None if there is none."""
    scale = lora.provenance.scales.get(name)
    rule = "alpha/sqrt(r)" if rslora else "alpha/r"
    return scale.alpha if scale is not None and (scale.rule, scale.rank) == (rule, rank) else None


def _owner(lora: LoRA, name: str) -> tuple[str, str]:
    """Module and parameter of a layer that adapts a bare parameter; `weight` goes by the module's name."""
    for target in lora.provenance.config.get("target_parameters") or ():
        if name == target or name.endswith(f".{target}"):
            module, _, parameter = name.rpartition(".")
            return module, parameter
    return name, "weight"


def _inherited(entries: list[_Entry]) -> list[_Entry]:
    """A module inside an adapted one (out_proj of an attention) takes rank and alpha from that one."""
    modules = {entry.module: entry for entry in entries if not entry.parameter}
    found = []
    for entry in entries:
        parts = entry.module.split(".")
        outer = [modules.get(".".join(parts[:length])) for length in range(1, len(parts))]
        owner = next((module for module in outer if module is not None), None)
        if owner is not None and owner.rank != entry.rank:
            rank = max(owner.rank, entry.rank)
            raise FormatError(
                f"Writing layer {entry.path!r} as PEFT: its rank is {entry.rank}, expected {owner.rank}, that "
                f"of {owner.path!r}, of which it is a part. Try: lora.map(lambda pair: pair.pad({rank}))."
            )
        found.append(
            entry if owner is None else replace(entry, alpha=owner.alpha, factor=owner.factor)
        )
    return found


def _spelled(entries: Iterable[_Entry]) -> dict[str, str]:
    """Where the factors of each path sit in PEFT's tree, with the `base_layer` of its wrappers."""
    found = list(entries)
    modules = {entry.module for entry in found if not entry.parameter}
    wrapped: dict[str, list[str]] = {}
    for entry in found:
        if entry.parameter:
            wrapped.setdefault(entry.module, []).append(entry.parameter)
    result = {}
    for entry in found:
        spelled = entry.module
        # a module inside an adapted one (out_proj of an attention) lies in the wrapper of that one
        for place in reversed([i for i, letter in enumerate(spelled) if letter == "."]):
            if spelled[:place] in modules:
                spelled = spelled[:place] + WRAPPER + spelled[place:]
        if entry.parameter:
            order = nesting_order(wrapped[entry.module])
            spelled += WRAPPER * (len(order) - 1 - order.index(entry.parameter))
        result[entry.path] = spelled
    return result


def _factors(lora: LoRA, entry: _Entry, at: str) -> dict[str, Tensor]:
    pair = entry.pairs[0]
    if len(entry.pairs) > 1:
        a = torch.cat([expert.v.T for expert in entry.pairs])  # (E r, m)
        outers = torch.stack([entry.outer(expert) for expert in entry.pairs])  # (E, n, r)
        b = outers.permute(1, 2, 0).reshape(pair.n, -1)  # (n, r E)
        return {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b}
    if lora.provenance.kinds.get(entry.layers[0]) == "embedding":
        return {f"{at}.lora_embedding_A": entry.outer(pair).T, f"{at}.lora_embedding_B": pair.v}
    a, b = pair.v.T, entry.outer(pair)
    if pair.kernel:
        a = a.reshape(pair.rank, -1, *pair.kernel)
        b = b.reshape(pair.n, pair.rank, *([1] * len(pair.kernel)))
    found = {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b}
    if lora.provenance.config.get("kasa_config"):
        found[f"{at}.lora_diag"] = torch.ones(pair.rank, dtype=pair.dtype, device=pair.device)
    return found


def _placed(
    lora: LoRA, name: str, side: Side, layers: Mapping[str, _Entry], spelled: Mapping[str, str]
) -> tuple[str, Tensor]:
    """The key of a side tensor in PEFT, and the tensor. Raises FormatError if it has no place there."""
    owner, _, tail = name.rpartition(".")
    entry = layers.get(owner)
    at = spelled[entry.path] if entry else owner
    match side.kind:
        case "dora_magnitude" if entry:
            return f"{at}.lora_magnitude_vector", side.tensor
        case "lora_bias" if entry:
            wide = side.tensor.to(torch.promote_types(side.tensor.dtype, torch.float32))
            tensor = side.tensor if entry.factor == 1.0 else wide / (entry.factor or 1.0)
            return f"{at}.lora_B.bias", tensor
        case "bias" | "embedding" | "base":
            return f"{at}{WRAPPER if entry else ''}.{tail}", side.tensor
        case "full":
            return name, side.tensor
        case "token_delta" if lora.provenance.config.get("trainable_token_indices"):
            return f"{owner}.token_adapter.{tail}", side.tensor
        case "native" if lora.provenance.format == "peft" and parse_key(name) is None:
            # not the factors of a stack that could not be unpacked: the new configuration would misread them
            return name, side.tensor
    raise FormatError(
        f"Writing the side tensor {name!r} of kind {side.kind!r} as PEFT: it has no place there. "
        "Try: dataclasses.replace(lora, side={}) to leave side tensors out."
    )


def _fill_biases(tensors: dict[str, Tensor]) -> None:
    """lora_bias is one flag for all layers: those without a bias get zeros."""
    if not any(key.endswith(".lora_B.bias") for key in tensors):
        return
    for key in [key for key in tensors if key.endswith(".lora_B.weight")]:
        b = tensors[key]
        tensors.setdefault(key.removesuffix("weight") + "bias", b.new_zeros(b.shape[0]))
