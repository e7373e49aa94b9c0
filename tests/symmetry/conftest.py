from dataclasses import dataclass

import pytest
import torch

from lorascope.core import LoRA, LoRABatch, LowRank, collate

SHAPES = {"a.q": (9, 7), "a.v": (5, 7), "b.q": (9, 7), "b.v": (5, 7), "c.o": (6, 11)}


@dataclass
class Draw:
    """Random float64 pairs, LoRAs and batches of three shape groups."""

    generator: torch.Generator

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def pair(self, n: int, m: int, rank: int) -> LowRank:
        return LowRank(self.normal(n, rank), self.normal(m, rank))

    def lora(self, rank: int) -> LoRA:
        return LoRA({name: self.pair(n, m, rank) for name, (n, m) in SHAPES.items()})

    def batch(self, size: int = 4, rank: int = 3) -> LoRABatch:
        return collate([self.lora(rank) for _ in range(size)])

    def ragged_batch(self) -> LoRABatch:
        """Ranks 1 to 4, the last LoRA with two layers missing, its rest of rank 2."""
        partial = self.lora(2).select(["b.q", "c.o", "a.v"])
        loras = [self.lora(rank) for rank in (4, 1, 3)] + [partial]
        return collate(loras, loras[0].signature(), allow_missing=True)


@pytest.fixture
def draw() -> Draw:
    return Draw(torch.Generator().manual_seed(0))
