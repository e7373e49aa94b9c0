"""Transformer over layers: one token per adapted matrix. Not gauge-invariant.

    t_l = W_group (silu(G_group x_l) * (P_group x_l)) + position_l,    x_l = standardise([u_l; v_l])
    f   = gated MLP(flatten(encoder(t_1, ..., t_L)))

The strongest network of the reference code that knows nothing of the symmetry (paper, section 6.2).
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.mlp import at_rank
from lorascope.models.model import Features, Model
from lorascope.models.standardise import Standardise

__all__ = ["GatedMLP", "Transformer", "sinusoids"]


class GatedMLP(nn.Module):
    """W (silu(G x) * (P x)): a linear map of a gated product (paper section 6.2)."""

    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.gate = nn.Linear(in_features, hidden)
        self.value = nn.Linear(in_features, hidden)
        self.out = nn.Linear(hidden, out_features)

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        gated = nn.functional.silu(self.gate(x)) * self.value(x)
        return self.out(gated)


def sinusoids(length: int, width: int) -> Tensor:  # (length, width), width even
    """Sinusoidal positions: sin and cos of position / 10000^(2i / width)."""
    rate = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2) / width)
    angle = torch.arange(length).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


class Transformer(Model):
    """A post-norm Transformer encoder over one token per layer, flattened into a gated MLP.

    Source: paper section 6.2 (the later version's baseline). Here the layers of one shape share their
    input projection, each number is standardised, and the output MLP is smaller by default.
    Equation: gated MLP(flatten(encoder(gated MLP_group(standardise([u_l; v_l])) + position_l))).
    Under g: changes; tokens are made of the numbers of the factors. Symmetry: none.
    Parameters: per shape group 2 (r (n + m) + 1) h + (h + 1) d with h = 2 d; per block 4 d^2 + 4 d for
    attention, 2 f d + f + d for its MLP with f = 4 d, 4 d for norms; 2 (L d + 1) h + (h + 1) k at the end.
    Cost: O(r sum (n + m) d + L d^2 + L^2 d) per LoRA.
    Ranks up to the one it was built for. A missing layer is masked from attention and its token zero.
    """

    name: ClassVar[str] = "transformer"
    symmetry: ClassVar[Symmetry] = Symmetry.NONE
    accepts_missing: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        options = {"width": width, "depth": depth, "heads": heads, "dropout": dropout}
        super().__init__(signature, out_features, rank=rank, max_rank=rank, options=options)
        groups = signature.groups()
        self.standardise = nn.ModuleList(
            Standardise(len(group) * rank * (group.n + group.m)) for group in groups
        )
        self.project = nn.ModuleList(
            GatedMLP(rank * (group.n + group.m), 2 * width, width) for group in groups
        )
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
            for _ in range(depth)
        )
        self.register_buffer("positions", sinusoids(len(signature), width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.head = GatedMLP(len(signature) * width, 2 * width, out_features)

    def prepare(self, batch: LoRABatch) -> None:
        """Stores mean and deviation of every number of the training factors."""
        for standardise, numbers in zip(self.standardise, self._numbers(batch), strict=True):
            assert isinstance(standardise, Standardise)
            standardise.fit(numbers.flatten(1))

    def features(self, batch: LoRABatch) -> Features:
        """Standardised numbers, (b, l, r (n + m)) per shape group, and which layers are there."""
        numbers = (
            standardise(x.flatten(1)).view(x.shape)
            for standardise, x in zip(self.standardise, self._numbers(batch), strict=True)
        )
        return (*numbers, batch.present)

    def score(self, features: Features) -> Tensor:  # (b, k)
        """Tokens, encoder, gated MLP."""
        assert isinstance(features, tuple)
        *numbers, present = features
        assert isinstance(present, Tensor)
        parts = [project(x) for project, x in zip(self.project, numbers, strict=True)]
        tokens = torch.cat(parts, dim=1)[:, self.layer_order] + self.get_buffer("positions")
        there = present.unsqueeze(2)  # (b, l, 1)
        # a LoRA without any layer still needs one key: attention over nothing is not a number
        absent = ~(present | ~present.any(1, keepdim=True))
        for block in self.blocks:
            tokens = block(tokens * there, src_key_padding_mask=absent)
        return self.head(self.dropout((tokens * there).flatten(1)))

    @property
    def layer_order(self) -> Tensor:  # (l,)
        """From the order of the shape groups to that of the signature."""
        places = [index for group in self.signature.groups() for index in group.indices]
        return torch.argsort(torch.tensor(places, device=self.device))

    def _numbers(self, batch: LoRABatch) -> list[Tensor]:  # (b, l, r (n + m)) per group
        batch = at_rank(batch.to(dtype=self.dtype), self.rank)
        return [
            torch.cat([g.u.flatten(2), g.v.flatten(2)], dim=2).transpose(0, 1) for g in batch.groups
        ]
