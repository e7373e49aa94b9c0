"""Checkers for anything that claims a symmetry: draw g, compare, and say by how much it fails.

    invariant:     f(g x) = f(x)
    equivariant:   f(g x) = g f(x)

Each checker returns the largest relative error that it saw, and raises AssertionError above the tolerance,
with the condition number of g and, for small g, its entries. The `*_error` functions return the error
without asserting. A checker can only show a symmetry on the LoRAs and gauges that it tried.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.lora import LoRA
from lorascope.core.low_rank import LowRank
from lorascope.core.symmetry_kind import Symmetry
from lorascope.errors import DataError
from lorascope.symmetry.action import (
    Gauge,
    act,
    act_stacked,
    condition_numbers,
    random_gauge,
    random_gauges,
)

__all__ = [
    "SymmetryError",
    "assert_equivariant",
    "assert_invariant",
    "equivariance_error",
    "invariance_error",
]

X = TypeVar("X", LowRank, LoRA, LoRABatch)


class SymmetryError(NamedTuple):
    """The largest error over the trials, relative to the largest entry of the expected output."""

    error: float
    gauge: Gauge
    condition: float

    def __str__(self) -> str:
        text = f"relative error {self.error:.3e} under a gauge of condition number {self.condition:.3g}"
        return f"{text}:\n{_show(self.gauge)}"


def invariance_error(
    function: Callable[[X], Any],
    x: X,
    *,
    group: Symmetry = Symmetry.GL,
    trials: int = 3,
    condition: float = 10.0,
    generator: torch.Generator | None = None,
) -> SymmetryError:
    """How far f(g x) is from f(x), at worst over random g of a group.

    Args:
        function: takes an x and returns a tensor, a value of `core`, or tuples, lists, mappings of them.
        x: a pair, a LoRA or a batch.
        group: O or GL; NONE is the trivial group, under which everything is invariant.
        trials: how many g are drawn.
        condition: bound on the condition number of g.
        generator: source of randomness; by default seeded with 0, so that a failure comes again.
    """
    expected = _flatten(function(x))
    return _worst(
        x, group, trials, condition, generator, lambda g: (_flatten(function(act(g, x))), expected)
    )


def equivariance_error(
    function: Callable[[X], Any],
    x: X,
    *,
    group: Symmetry = Symmetry.GL,
    trials: int = 3,
    condition: float = 10.0,
    generator: torch.Generator | None = None,
) -> SymmetryError:
    """How far f(g x) is from g f(x), at worst over random g of a group.

    `function` returns a value of the kind of x, or, for a batch, the hidden pair (u, v) of `layers`: two
    tensors (l, b, r, c) whose layers are in group order. The arguments are those of `invariance_error`.
    """
    out = function(x)

    def compare(g: Gauge) -> tuple[list[Tensor], list[Tensor]]:
        return _flatten(function(act(g, x))), _flatten(_act_output(g, x, out))

    return _worst(x, group, trials, condition, generator, compare)


def assert_invariant(
    function: Callable[[X], Any], x: X, *, tolerance: float = 1e-9, **options: Any
) -> float:
    """Assert that f(g x) = f(x) and return the error; the options are those of `invariance_error`.

    Example:
        >>> pair = LowRank(torch.ones(3, 1).double(), torch.ones(4, 1).double())
        >>> assert_invariant(lambda x: x.norm(), pair) < 1e-9
        True
    """
    return _check(invariance_error(function, x, **options), tolerance, "invariant")


def assert_equivariant(
    function: Callable[[X], Any], x: X, *, tolerance: float = 1e-9, **options: Any
) -> float:
    """Assert that f(g x) = g f(x) and return the error; the options are those of `equivariance_error`.

    Example:
        >>> pair = LowRank(torch.ones(3, 1).double(), torch.ones(4, 1).double())
        >>> assert_equivariant(lambda x: LowRank(2 * x.u, x.v[:2]), pair) < 1e-9
        True
    """
    return _check(equivariance_error(function, x, **options), tolerance, "equivariant")


def _check(result: SymmetryError, tolerance: float, claim: str) -> float:
    # written so that a NaN fails
    if not result.error <= tolerance:
        raise AssertionError(f"not {claim} within {tolerance:g}: {result}")
    return result.error


def _worst(
    x: LowRank | LoRA | LoRABatch,
    group: Symmetry,
    trials: int,
    condition: float,
    generator: torch.Generator | None,
    compare: Callable[[Gauge], tuple[list[Tensor], list[Tensor]]],
) -> SymmetryError:
    """Draw the gauges and keep the one with the largest error; a NaN counts as infinite."""
    if trials < 1:
        raise DataError(f"Checking a symmetry: found {trials} trials, expected at least 1.")
    generator = generator or torch.Generator().manual_seed(0)
    results = []
    for _ in range(trials):
        g = _draw(x, group, condition, generator)
        error = max(map(_relative, *compare(g)), default=0.0)
        results.append(SymmetryError(error, g, condition_numbers(g)))
    return max(results, key=lambda result: result.error)


def _draw(
    x: LowRank | LoRA | LoRABatch, group: Symmetry, condition: float, generator: torch.Generator
) -> Gauge:
    bound = 1.0 if group is Symmetry.NONE else condition
    orthogonal = group is not Symmetry.GL
    if isinstance(x, LowRank):
        kind = torch.promote_types(x.dtype, torch.float32)
        g: Gauge = random_gauge(
            x.rank, generator=generator, condition=bound, orthogonal=orthogonal, dtype=kind
        )
    else:
        g = random_gauges(x, generator=generator, condition=bound, orthogonal=orthogonal)
    return _identity(g) if group is Symmetry.NONE else g


def _identity(g: Gauge) -> Gauge:
    if isinstance(g, Tensor):
        return torch.eye(g.shape[-1], dtype=g.dtype, device=g.device).expand_as(g)
    if isinstance(g, Mapping):
        return {name: torch.eye(len(h), dtype=h.dtype) for name, h in g.items()}
    return tuple(torch.eye(h.shape[-1], dtype=h.dtype).expand_as(h) for h in g)


def _act_output(g: Gauge, x: LowRank | LoRA | LoRABatch, out: Any) -> Any:
    if isinstance(out, LowRank | LoRA | LoRABatch):
        return act(g, out)
    if not isinstance(g, Tensor | Mapping) and isinstance(out, tuple) and len(out) == 2:
        return act_stacked(torch.cat(list(g)), *out)
    raise DataError(
        f"Checking equivariance: the function returned {type(out).__name__}, expected a value of the kind "
        "of its input or the hidden pair (u, v) of a batch. Try: assert_invariant for other outputs."
    )


def _flatten(out: Any) -> list[Tensor]:
    """All tensors of an output, in a fixed order."""
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, LowRank):
        return [out.u, out.v]
    if isinstance(out, LoRA):
        return [x for name in sorted(out.layers) for x in _flatten(out.layers[name])]
    if isinstance(out, LoRABatch):
        return [x for group in out.groups for x in (group.u, group.v)]
    if isinstance(out, Mapping):
        return [x for key in sorted(out) for x in _flatten(out[key])]
    if isinstance(out, Sequence) and not isinstance(out, str):
        return [x for part in out for x in _flatten(part)]
    return [torch.as_tensor(out, dtype=torch.float64)]


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    error = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-300)
    return float("inf") if bool(error.isnan()) else float(error)


def _show(g: Gauge) -> str:
    """The entries of a small gauge, the shape of a large one."""
    if isinstance(g, Tensor):
        return str(g) if g.numel() <= 64 else f"g of shape {tuple(g.shape)}"
    pairs = g.items() if isinstance(g, Mapping) else enumerate(g)
    return "\n".join(f"{name}: {_show(part)}" for name, part in pairs)
