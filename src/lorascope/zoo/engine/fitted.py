"""`Fitted`: the adapters of one group after training, and the flat layout they are trained in.

All numbers of one adapter lie in one row of a (g, p) buffer, so that the optimiser is one product:

    row = A of layer 0 (r m), B of layer 0 (n r), A of layer 1, ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.core.lora import LoRA, Provenance, Scale
from lorascope.core.low_rank import LowRank
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.draws import first_factors

__all__ = ["Fitted", "Layout", "join", "untrained"]


@dataclass(frozen=True)
class Layout:
    """Where the factors of each adapted layer lie in a row."""

    shapes: Mapping[str, tuple[int, int]]  # layer -> (n, m), in the model's order
    rank: int

    @property
    def sizes(self) -> list[int]:
        """Lengths of the pieces of a row: A, B of each layer in turn."""
        return [size * self.rank for n, m in self.shapes.values() for size in (m, n)]

    def first(self, seeds: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The rows at the start of training, A from each seed and B zero: (g, p)."""
        rows = torch.zeros(len(seeds), sum(self.sizes), dtype=dtype)
        for row, seed in zip(rows, seeds, strict=True):
            pieces = torch.split(row, self.sizes)[::2]
            factors = first_factors(seed, self.shapes, self.rank)
            for piece, factor in zip(pieces, factors.values(), strict=True):
                piece.copy_(factor.flatten())
        return rows

    def scales(self, factor: float, dtype: torch.dtype) -> Tensor:
        """1 for the numbers of A, the scale for those of B: (p,)."""
        pieces = [torch.full((size,), 1.0, dtype=dtype) for size in self.sizes]
        for piece in pieces[1::2]:
            piece.fill_(factor)
        return torch.cat(pieces)

    def unpack(self, rows: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Views of (g, p) rows: layer -> A (g, r, m), B (g, n, r)."""
        pieces = iter(torch.split(rows, self.sizes, 1))
        factors = {}
        for name, (n, m) in self.shapes.items():
            A, B = next(pieces), next(pieces)
            factors[name] = (A.view(-1, self.rank, m), B.view(-1, n, self.rank))
        return factors


@dataclass(frozen=True, eq=False)
class Fitted:
    """Adapters after training; index 0 of every tensor counts the adapters."""

    spec: AdapterSpec
    layout: Layout
    rows: Tensor  # (g, p): the factors as trained, without the scale
    loss: Tensor  # (g,): mean training loss over the last epoch
    steps: Tensor  # (g,) int64
    finite: Tensor  # (g,) bool: False where training diverged; the last finite factors are kept

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def A(self) -> dict[str, Tensor]:  # noqa: N802 - PEFT's letter
        """PEFT's A of each layer: (g, r, m)."""
        return {name: A for name, (A, _) in self.layout.unpack(self.rows).items()}

    @property
    def B(self) -> dict[str, Tensor]:  # noqa: N802 - PEFT's letter
        """PEFT's B of each layer, without the scale: (g, n, r)."""
        return {name: B for name, (_, B) in self.layout.unpack(self.rows).items()}

    def select(self, index: Sequence[int] | Tensor) -> "Fitted":
        """Some of the adapters, in the order asked for."""
        i = torch.as_tensor(index)
        return Fitted(
            self.spec, self.layout, self.rows[i], self.loss[i], self.steps[i], self.finite[i]
        )

    def to_lora(self, i: int, *, base: str | None = None) -> LoRA:
        """Adapter `i` as a value, the scale folded into u."""
        spec = self.spec
        rule = "alpha/sqrt(r)" if spec.rslora else "alpha/r"
        scale = Scale(alpha=spec.alpha, rank=spec.rank, factor=spec.factor, rule=rule)
        layers = {
            name: LowRank(spec.factor * B[0], A[0].mT.contiguous())
            for name, (A, B) in self.layout.unpack(self.rows[i : i + 1]).items()
        }
        config = {
            "r": spec.rank,
            "lora_alpha": spec.alpha,
            "target_modules": list(spec.targets),
            "use_rslora": spec.rslora,
        }
        return LoRA(
            layers,
            provenance=Provenance(base=base, scales=dict.fromkeys(layers, scale), config=config),
        )


def join(parts: Sequence[Fitted]) -> Fitted:
    """Adapters of several groups of one spec in a row."""
    rows, loss, steps, finite = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("rows", "loss", "steps", "finite")
    )
    return Fitted(parts[0].spec, parts[0].layout, rows, loss, steps, finite)


def untrained(spec: AdapterSpec, layout: Layout, dtype: torch.dtype = torch.float32) -> Fitted:
    """One adapter with a zero update: the base alone."""
    rows = torch.zeros(1, sum(layout.sizes), dtype=dtype)
    return Fitted(
        spec,
        layout,
        rows,
        loss=torch.zeros(1),
        steps=torch.zeros(1, dtype=torch.int64),
        finite=torch.ones(1, dtype=torch.bool),
    )
