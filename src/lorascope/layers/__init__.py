"""Equivariant layers: one equation each, on all layers of a batch at once."""

from lorascope.layers.dropout import RowDropout
from lorascope.layers.hidden import HiddenPair
from lorascope.layers.linear import EquivariantLinear, HiddenLinear
from lorascope.layers.matmul import batched_matmul, bfloat16_is_fast, matmul_to_few, onednn_is_exact
from lorascope.layers.nonlinear import Gate, GateKind
from lorascope.layers.norm import GLNorm, divide_by_norm, one_over_norm, product_norm
from lorascope.layers.product import bilinear_form, full_product, mean_product

__all__ = [
    "EquivariantLinear",
    "GLNorm",
    "Gate",
    "GateKind",
    "HiddenLinear",
    "HiddenPair",
    "RowDropout",
    "batched_matmul",
    "bfloat16_is_fast",
    "bilinear_form",
    "divide_by_norm",
    "full_product",
    "matmul_to_few",
    "mean_product",
    "one_over_norm",
    "onednn_is_exact",
    "product_norm",
]
