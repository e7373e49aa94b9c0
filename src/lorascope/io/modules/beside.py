"""Tensors that stand beside a pair or instead of one.

    dora (n, 1..) | (1, in, 1..) | (n,)   DoRA's magnitudes, of the rows or of the columns of the new weight
    up_bias (n,)                          added to the bias, times the scale
    diff, diff_b                          an update as it is, of the weight and of the bias
    w_norm, b_norm                        updates of a norm
    set_weight                            a new weight;   reshape_weight: the shape it is padded to
    a1 a2 b1 b2 [bm]                      GLoRA: s (W a1 a2 + b1 b2); older files hold a2 a1 and b2 b1
    on_input, weight                      IA3: W scaled by 1 + weight along its inputs or outputs
    oft_blocks [rescale]                  OFT (n, b, b) and BOFT: a rotation of W
    q_layer p_layer lambda_layer          T-LoRA: less the state it started from, which the file lacks

Source: lycoris 4.1.3, modules/; ComfyUI, comfy/weight_adapter (2025-10).
"""

from collections.abc import Mapping

from torch import Tensor

from lorascope.core.lora import Scale, Side
from lorascope.io.factors import fold
from lorascope.io.modules.low_rank import build_low_rank
from lorascope.io.modules.parts import Built, Parts

__all__ = ["beside_pair", "build_glora", "build_native", "build_whole"]

WHOLE = {"diff": "diff", "diff_b": "diff_bias", "w_norm": "norm", "b_norm": "norm",
         "set_weight": "full", "reshape_weight": "native"}  # fmt: skip
NEEDS_BASE: Mapping[str, tuple[str, str]] = {
    "on_input": ("ia3", "IA3 scales the base weight along its inputs or outputs"),
    "oft_blocks": ("oft", "OFT and BOFT rotate the base weight"),
    "lambda_layer": ("tlora", "T-LoRA is relative to the state that it started from"),
}


def beside_pair(parts: Parts, scale: Scale | None, n: int) -> Built:
    """What the slots hold that belong to a layer without being part of its pair."""
    side: dict[str, Side] = {}
    left: dict[str, str] = {}
    if "dora" in parts:
        magnitudes = parts.slots["dora"]
        side["dora_magnitude"] = Side("dora_magnitude", magnitudes)
        axis = "columns" if magnitudes.ndim > 1 and magnitudes.shape[0] == 1 != n else "rows"
        left[f"dora_{axis}"] = (
            f"DoRA's magnitudes of the {axis} act on the base weights and are kept beside; u v^T is the "
            "direction part"
        )
    if "up_bias" in parts:
        factor = 1.0 if scale is None else scale.factor
        side["lora_bias"] = Side("lora_bias", fold(parts.slots["up_bias"], factor))
    for slot, kind in WHOLE.items():
        if slot in parts:
            side[slot] = Side(kind, parts.slots[slot])
    return Built(side=side, left=left, used=frozenset({"dora", "up_bias", *WHOLE}))


def build_whole(parts: Parts) -> Built:
    """A module that has no pair at all; everything in it is for `beside_pair`."""
    return Built(used=frozenset({"alpha"}))


def build_glora(parts: Parts) -> Built:
    """The part b1 b2 as a pair; a1 and a2, which multiply the base weight, beside it."""
    names = {slot: parts.factor(slot) for slot in ("a1", "a2", "b1", "b2")}
    if names["b1"].shape[1] != names["b2"].shape[0] or _swapped(names):
        names = {"a1": names["a2"], "a2": names["a1"], "b1": names["b2"], "b2": names["b1"]}
    slots = {"up": names["b1"], "down": names["b2"]}
    slots |= {"mid": parts.slots["bm"]} if "bm" in parts else {}
    slots |= {"alpha": parts.slots["alpha"]} if "alpha" in parts else {}
    built = build_low_rank(Parts(parts.layer, slots, parts.where, parts.scale))
    side = {f"glora_{slot}": Side("native", names[slot]) for slot in ("a1", "a2")}
    why = "GLoRA's part W a1 a2 needs the base weights; a1 and a2 are kept beside"
    rule = (
        "GLoRA under rs_lora stores the raw alpha, which the file does not show; alpha/r is assumed"
    )
    return Built(
        built.pair,
        built.scale,
        side,
        built.kind,
        notes={"glora_scale": rule},
        left={"glora": why},
        used=frozenset({"a1", "a2", "b1", "b2", "bm", "alpha"}),
    )


def _swapped(slots: Mapping[str, Tensor]) -> bool:
    """Older files: a1 (r, m), a2 (m, r), b1 (r, m), b2 (n, r)."""
    old = slots["b1"].shape[0] == slots["b2"].shape[1] == slots["a1"].shape[0]
    new = slots["b1"].shape[1] == slots["b2"].shape[0] == slots["a1"].shape[1]
    return old and not new


def build_native(parts: Parts) -> Built:
    """Tensors that act on the base weights, kept as they are."""
    code, why = next(NEEDS_BASE[slot] for slot in NEEDS_BASE if slot in parts)
    side = {slot: Side("native", tensor) for slot, tensor in parts.slots.items()}
    return Built(
        side=side, left={code: f"{why}; its tensors are kept beside"}, used=frozenset(parts.slots)
    )
