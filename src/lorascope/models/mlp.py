"""The flat MLP: a network on the numbers of the factors, blind to the gauge.

    f(u, v) = MLP(standardise(flatten(u_1, v_1, ..., u_L, v_L)))

It is the baseline that symmetry must beat (paper, section 1.2): where each LoRA starts from its own
random factor, the same update has unrelated numbers. `OAlign`, `SVD` and others reuse the class with
another vector in place of the flat factors.
"""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.heads import MLPHead
from lorascope.models.model import Features, Model
from lorascope.models.standardise import Standardise

__all__ = ["MLP", "VectorMLP", "at_rank", "flatten_factors"]


def at_rank(batch: LoRABatch, rank: int) -> LoRABatch:
    """The batch padded, or stripped of padding, to the common rank `rank`.

    The true ranks must not exceed `rank`, which `Model.check` has seen to.
    """
    if batch.rank <= rank:
        return batch.pad(rank)
    groups = tuple(GroupBatch(g.u[:, :, :rank], g.v[:, :, :rank]) for g in batch.groups)
    return replace(batch, groups=groups)


def flatten_factors(batch: LoRABatch) -> Tensor:  # (b, sum over layers of (n + m) r)
    """All numbers of each LoRA's factors, shape group by shape group."""
    parts = [x.transpose(0, 1).flatten(1) for g in batch.groups for x in (g.u, g.v)]
    return torch.cat(parts, dim=1)


class VectorMLP(Model):
    """An MLP on one standardised vector per LoRA; a subclass says which, in `vector`."""

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        width: int,
        hidden: int,
        depth: int,
        dropout: float,
        max_rank: int | None = None,
        **options: Any,
    ) -> None:
        options |= {"hidden": hidden, "depth": depth, "dropout": dropout}
        super().__init__(signature, out_features, rank=rank, max_rank=max_rank, options=options)
        self.standardise = Standardise(width)
        self.head = MLPHead(width, out_features, hidden=hidden, depth=depth, dropout=dropout)

    def vector(self, batch: LoRABatch) -> Tensor:  # (b, width)
        """What the network reads of each LoRA."""
        raise NotImplementedError(f"{type(self).__name__} must fill vector()")

    def prepare(self, batch: LoRABatch) -> None:
        """Stores mean and deviation of the training vectors."""
        self.standardise.fit(self.vector(batch))

    def features(self, batch: LoRABatch) -> Tensor:  # (b, width)
        """The standardised vector."""
        return self.standardise(self.vector(batch))

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The network's outputs."""
        return self.head(features)


class MLP(VectorMLP):
    """MLP on the flattened factors, each number standardised over the training LoRAs.

    Source: paper section 1.2 ("MLP") and 6.2 (three layers, LayerNorm, dropout). The reference code
    feeds raw numbers; here they are standardised, since the factors' tiny scale is no part of the
    question.
    Equation: MLP(flatten(u_1, v_1, ..., u_L, v_L)).
    Under g: changes; only ever the same for the same numbers. Symmetry: none.
    Parameters: (D + 3) h + (depth - 1) (h + 3) h + (h + 1) k with D = r sum (n + m).
    Cost: O(D h) per LoRA. Ranks up to the one it was built for; all layers needed.
    """

    name: ClassVar[str] = "mlp"
    symmetry: ClassVar[Symmetry] = Symmetry.NONE

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        hidden: int = 256,
        depth: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(
            signature,
            out_features,
            rank=rank,
            max_rank=rank,
            width=rank * sum(layer.n + layer.m for layer in signature.layers),
            hidden=hidden,
            depth=depth,
            dropout=dropout,
        )

    def vector(self, batch: LoRABatch) -> Tensor:  # (b, D)
        """The flat factors at the model's rank."""
        return flatten_factors(at_rank(batch.to(dtype=self.dtype), self.rank))
