"""The gauge group as pure functions: its action, ways to fix it, what it leaves alone, and checkers."""

from lorascope.symmetry.action import (
    Gauge,
    act,
    act_stacked,
    condition_numbers,
    random_gauge,
    random_gauges,
)
from lorascope.symmetry.alignment import align, procrustes
from lorascope.symmetry.canonical import (
    Canonical,
    Margins,
    canonical,
    canonical_stacked,
    margins,
)
from lorascope.symmetry.invariants import (
    effective_ranks,
    inner_products,
    layer_norms,
    norms,
    projected_products,
    singular_values,
    spectra,
)
from lorascope.symmetry.principal import principal_directions
from lorascope.symmetry.testing import (
    SymmetryError,
    assert_equivariant,
    assert_invariant,
    equivariance_error,
    invariance_error,
)

__all__ = [
    "Canonical",
    "Gauge",
    "Margins",
    "SymmetryError",
    "act",
    "act_stacked",
    "align",
    "assert_equivariant",
    "assert_invariant",
    "canonical",
    "canonical_stacked",
    "condition_numbers",
    "effective_ranks",
    "equivariance_error",
    "inner_products",
    "invariance_error",
    "layer_norms",
    "margins",
    "norms",
    "principal_directions",
    "procrustes",
    "projected_products",
    "random_gauge",
    "random_gauges",
    "singular_values",
    "spectra",
]
