"""MLP + O-Align: flat factors after each pair is rotated towards a template LoRA.

    q_l = argmin over q in O(r) of |u_l q - U_l|^2 + |v_l q - V_l|^2,   f = MLP(flatten(u_l q_l, v_l q_l))

The template (U, V) is one random training LoRA (paper, section 1.2).
"""

from typing import ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.mlp import VectorMLP, at_rank, flatten_factors
from lorascope.symmetry.alignment import align

__all__ = ["OAlign"]


class OAlign(VectorMLP):
    """MLP on factors aligned to a template by orthogonal Procrustes, each number standardised.

    Source: paper section 1.2 ("MLP+O-Align").
    Equation: MLP(flatten(u_l q_l, v_l q_l)), q = a b^T from the SVD u^T U + v^T V = a diag(s) b^T.
    Under g: unchanged for orthogonal g wherever u^T U + v^T V is invertible on the columns of the pair
    (its polar factor is then unique), which is almost everywhere; not for other g, which scale the
    factors. Symmetry: O(r).
    Parameters: those of the flat MLP; the template adds D stored numbers.
    Cost: O((n + m) r^2) per layer for the alignment, then O(D h).
    Ranks up to the one it was built for; all layers needed. Before `prepare` the template is random.
    """

    name: ClassVar[str] = "o_align"
    symmetry: ClassVar[Symmetry] = Symmetry.O

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        template_seed: int = 0,
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
            template_seed=template_seed,
        )
        self.template_seed = template_seed
        for index, group in enumerate(signature.groups()):
            for side, width in (("u", group.n), ("v", group.m)):
                template = torch.randn(len(group), rank, width)
                self.register_buffer(f"template_{side}_{index}", template)

    @property
    def template(self) -> LoRABatch:
        """The one LoRA that all others are rotated towards."""
        groups = tuple(
            GroupBatch(
                self.get_buffer(f"template_u_{index}").unsqueeze(1),
                self.get_buffer(f"template_v_{index}").unsqueeze(1),
            )
            for index in range(len(self.signature.groups()))
        )
        ranks = torch.full((1, len(self.signature)), self.rank, device=self.device)
        return LoRABatch(self.signature, groups, ranks)

    def prepare(self, batch: LoRABatch) -> None:
        """Takes a random training LoRA of the highest rank as the template, then the statistics."""
        total = batch.ranks.sum(1)
        fullest = (total == total.max()).nonzero().flatten().tolist()
        generator = torch.Generator().manual_seed(self.template_seed)
        row = fullest[int(torch.randint(len(fullest), (), generator=generator))]
        for index, group in enumerate(at_rank(batch, self.rank).groups):
            self.get_buffer(f"template_u_{index}").copy_(group.u[:, row])
            self.get_buffer(f"template_v_{index}").copy_(group.v[:, row])
        super().prepare(batch)

    def vector(self, batch: LoRABatch) -> Tensor:  # (b, D)
        """The flat factors after alignment."""
        batch = at_rank(batch.to(dtype=self.dtype), self.rank)
        return flatten_factors(align(batch, self.template))
