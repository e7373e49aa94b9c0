"""DeepSets over rank directions: a network on each singular triple, even in its sign, summed.

    h_l = sum_k s_k / |s| (phi_l(s_k, x_k, y_k) + phi_l(s_k, -x_k, -y_k)),    f = MLP(h_1, ..., h_L)

The sum forgets the order of the directions, the even part the sign of each pair, so that no rule fixes a gauge.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.directions import Directions, LayerMaps, read_directions
from lorascope.models.heads import MLPHead
from lorascope.models.model import Features, Model
from lorascope.models.spectra import Sizes

__all__ = ["DeepSets"]

SHARE_FLOOR = 1e-3


class DeepSets(Model):
    """A sign-even network on singular triples, summed over each layer's rank directions.

    Source: DeepSets (Zaheer et al. 2017) with the sign-invariant phi(v) + phi(-v) of SignNet (Lim et al.
    2022), on the triples of arXiv 2603.15990; own combination. Each direction counts by its share of the
    layer's norm, so that one that is rounding counts for nothing.
    Equation: phi_l(s, x, y) = W' relu(W relu(A_l x + B_l y + e_l + a log(s / |s|) + b z_l)), z_l the
    standardised log norm; f = MLP(all h_l), h_l as at the head of the file.
    Under g: unchanged where the singular values of each layer differ: triples belong to u v^T up to sign
    and order. Among equal singular values any rotation is as good, and the answer depends on it.
    Symmetry: GL(r).
    Parameters: h sum (n + m) + L h + 2 h for the first map, (h + 1) h + h d + d, and the head's on L d.
    Cost: O((n + m) r^2) per layer for the triples, then O(L r h (n + m + h)) per LoRA.
    Any rank. A missing layer is a sum of nothing.
    """

    name: ClassVar[str] = "deep_sets"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    breaks: ClassVar[str] = "equal singular values"
    accepts_missing: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        hidden: int = 64,
        width: int = 32,
        head: int = 128,
        dropout: float = 0.1,
    ) -> None:
        options: dict[str, Any] = {"hidden": hidden, "width": width, "head": head}
        super().__init__(signature, out_features, rank=rank, options=options | {"dropout": dropout})
        self.norms = Sizes(signature, values=0)
        self.left, self.right = (LayerMaps(signature, side, hidden) for side in ("n", "m"))
        self.embedding = nn.Parameter(0.02 * torch.randn(len(signature), hidden))
        self.size = nn.Linear(2, hidden, bias=False)
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, width)
        self.head = MLPHead(len(signature) * width, out_features, hidden=head, dropout=dropout)

    def prepare(self, batch: LoRABatch) -> None:
        """Stores the statistics of the log norms."""
        self.norms.fit(batch)

    def features(self, batch: LoRABatch) -> Features:
        """The standardised log norms (b, L), and the singular triples."""
        batch = batch.to(dtype=self.dtype)
        triples = read_directions(batch).pack()
        assert isinstance(triples, tuple)
        return self.norms(batch)[:, : len(self.signature)], *triples

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The sums over directions of all layers, through the head."""
        assert isinstance(features, tuple)
        norms, triples = features[0], Directions.unpack(features[1:])
        assert isinstance(norms, Tensor)
        total = triples.s.norm(dim=2, keepdim=True)
        share = triples.s / torch.where(total > 0, total, 1.0)  # (b, L, r)
        facts = torch.stack(
            [(share + SHARE_FLOOR).log(), norms.unsqueeze(2).expand_as(share)], dim=3
        )
        even = self.size(facts) + self.embedding.unsqueeze(1)  # (b, L, r, h)
        odd = self.left(triples.x) + self.right(triples.y)
        phi = self._phi(even + odd) + self._phi(even - odd)
        sums = (phi * share.unsqueeze(3)).sum(2)  # (b, L, h)
        return self.head(self.outer(sums).flatten(1))

    def _phi(self, x: Tensor) -> Tensor:
        """All of phi but its last linear map, which goes behind the sum."""
        return self.inner(x.relu()).relu()
