"""Values of a LoRA: factor pairs, adapters, batches, their signature and their Gram matrices. Torch only."""

from lorascope.core.batch import GroupBatch, LoRABatch, collate, concat
from lorascope.core.gram import gram, layer_norms
from lorascope.core.hadamard import Hadamard
from lorascope.core.kronecker import Kronecker
from lorascope.core.lora import LoRA, Provenance, Scale, Side, TruncatedLoRA
from lorascope.core.low_rank import LowRank, Truncated
from lorascope.core.magnitudes import MAGNITUDE, Magnitudes, side_kinds
from lorascope.core.signature import Coverage, LayerShape, ShapeGroup, Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.core.update import Update

__all__ = [
    "MAGNITUDE",
    "Coverage",
    "GroupBatch",
    "Hadamard",
    "Kronecker",
    "LayerShape",
    "LoRA",
    "LoRABatch",
    "LowRank",
    "Magnitudes",
    "Provenance",
    "Scale",
    "ShapeGroup",
    "Side",
    "Signature",
    "Symmetry",
    "Truncated",
    "TruncatedLoRA",
    "Update",
    "collate",
    "concat",
    "gram",
    "layer_norms",
    "side_kinds",
]
