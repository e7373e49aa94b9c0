"""Problems of metadata that say one thing while the tensors say another.

Metadata is edited by hand, copied from other files and merged; tensors are what is used. Block-wise ranks are
legal and conv layers have their own, so that only a rank that no layer has is a contradiction.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from lorascope.inspect.facts import Facts
from lorascope.inspect.problem import Problem, Severity
from lorascope.inspect.training import network_arguments, number_of

__all__ = [
    "DECLARED",
    "alpha_contradicts",
    "base_contradicts",
    "declared_family",
    "rank_contradicts",
]

CODE = "metadata-contradicts"
# what a declaration holds -> the family that it means, first match first; only fields that name a base model
DECLARED: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        family: re.compile(pattern, re.IGNORECASE)
        for family, pattern in {
            "SDXL": r"sdxl|stable-diffusion-xl|pony|illustrious|noobai",
            "SD1": r"^sd_?v?1|^sd_1|stable-diffusion-v1",
            "SD2": r"^sd_?v?2|stable-diffusion-v2",
            "SD3": r"^sd_?3|stable-diffusion-3",
            "FLUX.2": r"flux[._-]?2",
            "Flux": r"flux",
            "Wan": r"^wan",
            "Qwen-Image": r"qwen[-_]?image",
            "HunyuanVideo": r"hunyuan[-_]?video",
            "Lumina 2": r"lumina",
        }.items()
    }
)
FIELDS = ("ss_base_model_version", "modelspec.architecture")
UNDECIDED = ("unknown", "CLIP", "Llama-like")
KIN = MappingProxyType({"Chroma": "Flux", "SDXL refiner": "SDXL"})


def rank_contradicts(facts: Facts) -> Iterator[Problem]:
    """A declared rank that no layer has."""
    declared = number_of(facts.config.get("ss_network_dim"))
    ranks = {layer.scale.rank if layer.scale else layer.rank for layer in facts.layers}
    plain = facts.format in ("kohya", "diffusers", "comfy")  # other algorithms multiply ranks
    if declared is None or not plain or not ranks or declared in ranks:
        return
    # an extracted or resized LoRA keeps the old metadata; a merged one adds ranks up
    yield Problem(
        CODE,
        Severity.WARNING,
        f"The metadata declare rank {declared:g}, the layers have "
        f"{', '.join(map(str, sorted(ranks)[:4]))}{', ...' if len(ranks) > 4 else ''}: the file was resized or "
        "merged, or its metadata are those of another.",
    )


def alpha_contradicts(facts: Facts) -> Iterator[Problem]:
    """A declared alpha that no layer has."""
    declared = number_of(facts.config.get("ss_network_alpha"))
    alphas = {layer.scale.alpha for layer in facts.layers if layer.scale}
    stored_otherwise = "rs_lora" in network_arguments(facts.config) or None in alphas
    if declared is None or not alphas or stored_otherwise or declared == 0:
        return
    if all(abs((alpha or 0) - declared) > 1e-2 * abs(declared) for alpha in alphas):
        found = ", ".join(f"{alpha:g}" for alpha in sorted(a for a in alphas if a is not None)[:4])
        yield Problem(
            CODE,
            Severity.WARNING,
            f"The metadata declare alpha {declared:g}, the layers have {found}: the strength is that of the "
            "layers.",
        )


def base_contradicts(facts: Facts) -> Iterator[Problem]:
    """A declared base whose layers have other names or sizes."""
    found = facts.family.name
    key, declared = declared_family(facts.config)
    if declared is None or found in UNDECIDED:
        return
    names = {KIN.get(name, name) for name in found.split(" or ")}
    if declared not in names:
        yield Problem(
            "base-contradicts",
            Severity.WARNING,
            f"The metadata declare {facts.config[key]!s:.60} ({key}), a base of {declared}, but names and "
            f"shapes are those of {found} ({facts.family.evidence:.120}).",
        )


def declared_family(config: Mapping[str, object]) -> tuple[str, str | None]:
    """The field that names a base version, and the family it means; None if there is none known."""
    for key in FIELDS:
        text = config.get(key)
        if isinstance(text, str):
            for family, pattern in DECLARED.items():
                if pattern.search(text):
                    return key, family
    return "", None
