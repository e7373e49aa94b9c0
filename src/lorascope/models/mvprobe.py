"""Learned probes on four views of every update: rows, columns, and the Gram matrices of both.

    X = dW / |dW|:    views  X A,   X^T B,   X X^T C,   X^T X D       A: (m, c), B and C: (n, c), D: (m, c)
    h = sum over views of E relu(W standardised(view) + w)            W: (h, n) or (h, m), a view and layer

    f = MLP(h_1, ..., h_L)

No view is formed: with X = u v^T, W X A = (W u)(v^T A) and W X X^T C = (W u)(v^T v)(u^T C).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.heads import MLPHead
from lorascope.models.model import Features, Model
from lorascope.models.sketch import unit_norm
from lorascope.models.spectra import Sizes

__all__ = ["MVProbe", "Views", "view"]


def view(
    outer: Tensor,  # (..., r, n) the factor whose space the view's rows are in
    inner: Tensor,  # (..., r, c) what the probes become in the rank's space
    maps: Tensor,  # (..., n, h)
) -> Tensor:  # (..., h, c)
    """W Y / rms(Y) for the view Y = outer^T inner, (n, c), through r x r matrices; 0 where Y is 0."""
    square = (inner * (outer @ outer.mT @ inner)).sum((-2, -1)).clamp(min=0)
    scale = (square / (outer.shape[-1] * inner.shape[-1]) + 1e-12).rsqrt()
    return (outer @ maps).mT @ inner * scale[..., None, None]


class Views(nn.Module):
    """The four views of the layers of one shape, encoded and summed.

    (l, b, r, n), (l, b, r, m) -> (b, l, d).
    """

    def __init__(
        self, layers: int, n: int, m: int, *, probes: int, hidden: int, width: int
    ) -> None:
        super().__init__()
        # rows of the four views live in the space of outputs, inputs, outputs, inputs
        ends = (n, m, n, m)
        starts = (m, n, n, m)
        self.probes = nn.ParameterList(
            torch.randn(layers, 1, end, probes) * end**-0.5 for end in starts
        )
        self.maps = nn.ParameterList(
            torch.randn(layers, 1, end, hidden) * end**-0.5 for end in ends
        )
        self.biases = nn.Parameter(torch.zeros(4, layers, 1, hidden, 1))
        self.encode = nn.Parameter(
            torch.randn(4, layers, hidden * probes, width) * (hidden * probes) ** -0.5
        )

    def forward(self, u: Tensor, v: Tensor) -> Tensor:  # (b, l, d)
        """The sum of the four encoded views."""
        uu, vv = u @ u.mT, v @ v.mT  # (l, b, r, r)
        a, b, c, d = self.probes
        inner = (v @ a, u @ b, vv @ (u @ c), uu @ (v @ d))
        total = u.new_zeros(())
        for index, (outer, probed) in enumerate(zip((u, v, u, v), inner, strict=True)):
            response = view(outer, probed, self.maps[index]) + self.biases[index]
            total = total + torch.bmm(response.relu().flatten(2), self.encode[index])
        return total.transpose(0, 1)


class MVProbe(Model):
    """Four probed views of each update, encoded by layer and read together.

    Source: MVProbe, arXiv 2605.23410 (four branches: learned probes on X, X^T, X X^T, X^T X, each
    standardised by sample, encoded and fused), which extends ProbeX and reads one layer; here all layers,
    and the factors instead of the dense X. `sizes` adds standardised log spectra to the last network, which
    theirs lacks: the standardisation takes the size away.
    Equation: MLP(sum_v E_lv relu(W_lv Y_lv / rms(Y_lv) + w_lv) for all l), Y_lv the four views.
    Under g: unchanged, since every view is a function of u v^T. Symmetry: GL(r).
    Parameters: 2 (c + h) sum (n + m) + 4 L (h + h c d), and the head's on L d.
    Cost: O(r (c + h + r)(n + m) + h c d) per layer. Any rank; of a missing layer only the biases speak.
    """

    name: ClassVar[str] = "mvprobe"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        probes: int = 16,
        hidden: int = 16,
        width: int = 32,
        head: int = 128,
        dropout: float = 0.1,
        sizes: bool = False,
    ) -> None:
        options: dict[str, Any] = {"probes": probes, "hidden": hidden, "width": width}
        options |= {"head": head, "dropout": dropout, "sizes": sizes}
        super().__init__(signature, out_features, rank=rank, options=options)
        self.views = nn.ModuleList(
            Views(len(group), group.n, group.m, probes=probes, hidden=hidden, width=width)
            for group in signature.groups()
        )
        self.sizes = Sizes(signature, values=rank) if sizes else None
        beside = 0 if self.sizes is None else self.sizes.width
        inputs = len(signature) * width + beside
        self.head = MLPHead(inputs, out_features, hidden=head, dropout=dropout)

    def prepare(self, batch: LoRABatch) -> None:
        """Stores statistics of the log spectra where they are read."""
        if self.sizes is not None:
            self.sizes.fit(batch)

    def features(self, batch: LoRABatch) -> Features:
        """The updates at norm 1, and with `sizes` the standardised log spectra before them."""
        batch = batch.to(dtype=self.dtype)
        return unit_norm(batch) if self.sizes is None else (self.sizes(batch), unit_norm(batch))

    def score(self, features: Features) -> Tensor:  # (b, k)
        """All layers' views through the head."""
        batch = features[-1] if isinstance(features, tuple) else features
        assert isinstance(batch, LoRABatch)
        parts = [views(g.u, g.v) for views, g in zip(self.views, batch.groups, strict=True)]
        encoded = torch.cat(parts, dim=1).flatten(1)
        if self.sizes is not None:
            assert isinstance(features, tuple)
            assert isinstance(features[0], Tensor)
            encoded = torch.cat([encoded, features[0]], dim=1)
        return self.head(encoded)
