"""Adapters of one zoo that differ in shape: rank, rank of the MLP, alpha and rule of each LoRA.

The layers are the same for all, so that one predictor reads them all; what they have in common is
the family's spec.
"""

from collections.abc import Mapping
from dataclasses import replace

from lorascope.zoo.engine.adapter_spec import AdapterSpec

__all__ = ["MIXED", "SHAPE_KEYS", "shaped"]

#: Of each LoRA, with equal chance: rank of attention, rank of the MLP, alpha, whether it is rsLoRA.
MIXED: Mapping[str, tuple[float, ...]] = {
    "rank": (4, 6, 8),  # padded to 8: 2 of 8 would waste more work than it tells
    "mlp_rank": (4, 6, 8),
    "alpha": (4, 8),
    "rslora": (0, 1),
}
SHAPE_KEYS = tuple(MIXED)
MLP = ("gate_proj", "up_proj", "down_proj")


def shaped(spec: AdapterSpec, drawn: Mapping[str, float]) -> AdapterSpec:
    """The spec of one LoRA; what was not drawn stays as it is.

    Example:
        >>> spec = AdapterSpec(("q_proj", "up_proj"), rank=8, alpha=8)
        >>> own = shaped(spec, {"rank": 2.0, "mlp_rank": 4.0, "rslora": 1.0})
        >>> own.rank_of("q_proj"), own.rank_of("mlp.up_proj"), own.rslora
        (2, 4, True)
    """
    rank = int(drawn.get("rank", spec.rank))
    pattern = dict(spec.rank_pattern)
    if "mlp_rank" in drawn and int(drawn["mlp_rank"]) != rank:
        pattern |= {target: int(drawn["mlp_rank"]) for target in spec.targets if target in MLP}
    return replace(
        spec,
        rank=rank,
        alpha=float(drawn.get("alpha", spec.alpha)),
        rslora=bool(drawn.get("rslora", spec.rslora)),
        rank_pattern=pattern,
    )
