from dataclasses import dataclass

import pytest
import torch

from lorascope.core import LoRA, LoRABatch, LowRank, collate
from lorascope.layers import EquivariantLinear, HiddenPair
from lorascope.symmetry import act_stacked, random_gauge

SHAPES = {"a.q": (9, 7), "a.v": (5, 7), "b.q": (9, 7), "c.o": (6, 11)}


@dataclass
class Draw:
    """Random float64 batches of three shape groups, and hidden pairs."""

    generator: torch.Generator

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def lora(self, rank: int) -> LoRA:
        pairs = {
            name: LowRank(self.normal(n, rank), self.normal(m, rank))
            for name, (n, m) in SHAPES.items()
        }
        return LoRA(pairs)

    def batch(self, ranks=(3, 3, 3)) -> LoRABatch:
        return collate([self.lora(rank) for rank in ranks])

    def pair(self, layers=4, size=3, rank=2, channels=5) -> HiddenPair:
        return HiddenPair(
            self.normal(layers, size, rank, channels), self.normal(layers, size, rank, channels)
        )

    def linear(self, batch: LoRABatch, channels: int) -> EquivariantLinear:
        return EquivariantLinear(batch.signature, channels).double()

    def moved(self, pair: HiddenPair) -> tuple[torch.Tensor, HiddenPair]:
        """A gauge for each layer and LoRA, and the pair under it."""
        layers, size, rank, _ = pair.u.shape
        g = random_gauge(rank, generator=self.generator, shape=(layers, size))
        return g, HiddenPair(*act_stacked(g, *pair))

    def equivariance_error(self, function, pair: HiddenPair) -> float:
        """Largest relative gap between f(g x) and g f(x)."""
        g, moved = self.moved(pair)
        expected = act_stacked(g, *function(pair))
        return max(
            ((found - want).abs().max() / want.abs().max()).item()
            for found, want in zip(function(moved), expected, strict=True)
        )


@pytest.fixture
def draw() -> Draw:
    torch.manual_seed(0)
    return Draw(torch.Generator().manual_seed(0))
