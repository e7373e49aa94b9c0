"""`Layout`: where the numbers of one adapter lie in a flat row.

All numbers of one adapter lie in one row of a (g, p) buffer, so that the optimiser is one product:

    row = A of layer 0 (r m), B of layer 0 (n r), with DoRA its magnitude (n,), A of layer 1, ...

Adapters of different ranks share a layout: r is the largest rank of the layer among them, and what
lies beyond an adapter's own rank is zero in A and B. It stays zero exactly: the gradient of either
is a product with the other, and AdamW neither moves nor decays a zero without gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.draws import first_factors

__all__ = ["Factors", "LayerShape", "Layout"]


class LayerShape(NamedTuple):
    """The shape of one adapted layer; m counts input channels times the kernel of a convolution."""

    n: int
    m: int
    kernel: tuple[int, ...] = ()


class Factors(NamedTuple):
    """The numbers of one layer of g adapters."""

    A: Tensor  # (g, r, m)
    B: Tensor  # (g, n, r)
    magnitude: Tensor | None = None  # (g, n), with DoRA


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the numbers of each adapted layer lie in a row."""

    shapes: Mapping[str, LayerShape]  # in the model's order
    ranks: Mapping[str, int]  # of each layer, the largest among the adapters
    norms: Mapping[str, Tensor] | None = None  # with DoRA: the row norms of the frozen weights (n,)

    @classmethod
    def of(
        cls,
        shapes: Mapping[str, LayerShape],
        specs: Sequence[AdapterSpec],
        norms: Mapping[str, Tensor] | None = None,
    ) -> "Layout":
        """The layout that holds adapters of these specs.

        Raises:
            TrainingError: the specs do not adapt the same modules, or only some are DoRA.
        """
        kinds = {(spec.targets, spec.dora) for spec in specs}
        if len(kinds) != 1:
            raise TrainingError(
                f"laying out adapters: found the targets and DoRA flags {sorted(kinds)} in one "
                "group, expected one pair. Try finetuning them in separate calls"
            )
        ranks = {name: max(spec.rank_of(name) for spec in specs) for name in shapes}
        return cls(shapes, ranks, norms if specs[0].dora else None)

    @property
    def sizes(self) -> list[int]:
        """Lengths of the pieces of a row: A, B and with DoRA the magnitude of each layer in turn."""
        sizes = []
        for name, shape in self.shapes.items():
            rank = self.ranks[name]
            sizes += [rank * shape.m, shape.n * rank] + [shape.n] * (self.norms is not None)
        return sizes

    def first(
        self, specs: Sequence[AdapterSpec], seeds: Sequence[int], dtype: torch.dtype
    ) -> Tensor:
        """The rows at the start: A from each seed, B zero, magnitudes the norms: (g, p)."""
        rows = torch.zeros(len(seeds), sum(self.sizes), dtype=dtype)
        for name, factors in self.unpack(rows).items():
            if factors.magnitude is not None and self.norms is not None:
                factors.magnitude.copy_(self.norms[name].expand(len(seeds), -1))
        parts = self.unpack(rows)
        for i, (spec, seed) in enumerate(zip(specs, seeds, strict=True)):
            ranks = {name: spec.rank_of(name) for name in self.shapes}
            for name, A in first_factors(seed, self.shapes, ranks).items():
                parts[name].A[i, : ranks[name]] = A
        return rows

    def scales(self, specs: Sequence[AdapterSpec], dtype: torch.dtype) -> Tensor:
        """Each adapter's factor for the numbers of B, 1 for the others: (g, p), (1, p) if all agree."""
        if all(spec == specs[0] for spec in specs):
            specs = specs[:1]
        scales = torch.ones(len(specs), sum(self.sizes), dtype=dtype)
        for name, (_, B, _) in self.unpack(scales).items():
            factors = torch.tensor([spec.factor_of(name) for spec in specs], dtype=torch.float64)
            B.copy_(factors[:, None, None].expand_as(B))
        return scales

    def unpack(self, rows: Tensor) -> dict[str, Factors]:
        """Views of (g, p) rows."""
        pieces = iter(torch.split(rows, self.sizes, 1))
        factors = {}
        for name, (n, m, _) in self.shapes.items():
            rank = self.ranks[name]
            A, B = next(pieces).view(-1, rank, m), next(pieces).view(-1, n, rank)
            factors[name] = Factors(A, B, None if self.norms is None else next(pieces))
        return factors

    @property
    def parameters(self) -> int:
        """Numbers in a row."""
        return sum(self.sizes)
