"""What the keys of a PEFT file mean.

    base_model.model.M.lora_A.weight            factor A of module M          (linear, convolution)
    base_model.model.M.lora_A.default.weight    the same with the adapter's name left in
    base_model.model.M.lora_embedding_A         factor A of an embedding
    base_model.model.M.base_layer.lora_A.weight a wrapper inside a wrapper    (experts, attention)
    base_model.model.M.hada_w1_a  M.lokr_w1     a factor of LoHa, of LoKr
    base_model.model.classifier.weight          no factor: a whole tensor beside the adapter

Only names are looked at. The prefix is optional: adapters injected without a PeftModel lack it.
Source: peft 0.21.2, utils/save_and_load.py and tuners/tuners_utils.py.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lorascope.errors import FormatError

__all__ = [
    "NATIVE",
    "PREFIX",
    "WRAPPER",
    "FactorKey",
    "SideKey",
    "one_adapter",
    "parse_key",
    "parse_side",
    "strip_wrappers",
]

PREFIX = "base_model.model."
WRAPPER = ".base_layer"
WRAPPERS = re.compile(r"\.base_layer(?=\.|$)")

# LoHa's and LoKr's, which are also LyCORIS' names
NATIVE = (
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "hada_t1",
    "hada_t2",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "lokr_t2",
)
SLOTS = frozenset(
    {
        "lora_A",
        "lora_B",
        "lora_E",  # AdaLoRA's singular values
        "lora_diag",  # KaSA's
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",  # DoRA
        *NATIVE,
    }
)


@dataclass(frozen=True)
class FactorKey:
    """A key of a factor: the module as the file spells it, the slot, and the adapter's name if left in.

    The slot is one of `SLOTS`, or "lora_bias" for `lora_B.bias`.
    """

    module: str
    slot: str
    adapter: str | None


@dataclass(frozen=True)
class SideKey:
    """A key of another tensor: its kind (see `lorascope.core.lora.Side`) and its name on the LoRA."""

    kind: str
    name: str
    adapter: str | None = None


def parse_key(key: str) -> FactorKey | None:
    """The factor that a key names, or None if it names something else.

    Example:
        >>> parse_key("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight")
        FactorKey(module='model.layers.0.self_attn.q_proj', slot='lora_A', adapter='default')
    """
    segments = key.removeprefix(PREFIX).split(".")
    places = [index for index, segment in enumerate(segments) if segment in SLOTS]
    if not places:
        return None
    place = places[-1]
    rest = segments[place + 1 :]
    tail = rest.pop() if rest and rest[-1] in ("weight", "bias") else ""
    slot = segments[place]
    if tail == "bias":
        if slot != "lora_B":
            return None
        slot = "lora_bias"
    if len(rest) > 1:
        return None
    return FactorKey(".".join(segments[:place]), slot, rest[0] if rest else None)


def strip_wrappers(module: str) -> str:
    """The module's path in the base model: without the `base_layer` of PEFT's wrappers."""
    return WRAPPERS.sub("", module)


def parse_side(key: str, keys: Iterable[str], embeddings: Mapping[str, object]) -> SideKey:
    """What a tensor is that is no factor.

    Args:
        key: its key.
        keys: all keys of the file (a set is fastest).
        embeddings: the embedding layers that the file adapts.

    A bias that comes without its weight is a trained bias; everything else that PEFT saves without a mark is
    a whole replacement of the base model's tensor (`modules_to_save`, resized embeddings).
    """
    name = key.removeprefix(PREFIX)
    segments = name.split(".")
    if any(segment.startswith("lora_") for segment in segments) or "original_module" in segments:
        return SideKey("native", name)
    module, _, adapter_and_rest = name.partition(".modules_to_save.")
    if adapter_and_rest:
        adapter, _, rest = adapter_and_rest.partition(".")
        return SideKey("full", f"{module}.{rest}" if rest else module, adapter)
    if ".token_adapter.trainable_tokens_delta" in name:
        module, _, rest = name.partition(".token_adapter.trainable_tokens_delta")
        return SideKey("token_delta", f"{module}.trainable_tokens_delta", rest.strip(".") or None)
    bare = strip_wrappers(name)
    owner, _, tail = bare.rpartition(".")
    if tail == "bias" and key[: -len("bias")] + "weight" not in keys:
        return SideKey("bias", bare)
    if bare != name:
        return SideKey("embedding" if owner in embeddings else "base", bare)
    return SideKey("full", bare)


def one_adapter(adapters: Iterable[str | None], where: str) -> str | None:
    """The adapter's name if the keys carry one. Raises FormatError if they carry several."""
    found = sorted({adapter for adapter in adapters if adapter is not None})
    if len(found) > 1:
        raise FormatError(
            f"Reading {where!r}: it holds the adapters {found[:5]}, expected one. "
            "Try: save one adapter with model.save_pretrained(..., selected_adapters=[NAME])."
        )
    return found[0] if found else None
