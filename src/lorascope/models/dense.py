"""MLP + Dense: a network on every entry of every update. Exact and expensive, for small layers only.

    f(u, v) = MLP(flatten(u_1 v_1^T / c_1, ..., u_L v_L^T / c_L))  [+ MLP(log norms)]

The one model that forms n x m products (paper, section 1.2); its first layer has a weight per entry.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.gram import layer_norms
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.errors import LayerError
from lorascope.models.heads import MLPHead
from lorascope.models.model import Features, Model
from lorascope.models.spectra import Sizes

__all__ = ["Dense"]


class Dense(Model):
    """MLP on the entries of the updates u v^T.

    Source: paper section 1.2 ("MLP+Dense"), which is `unit_norm=False` with c_l the root mean square
    entry of the layer over the training LoRAs. The default takes c_l as the root mean square entry of
    the LoRA's own layer and adds a small MLP of the standardised log norms: direction and size are
    separate facts, and learning rates spread sizes over decades.
    Equation: MLP(flatten(u_l v_l^T / c_l)) + MLP(log norms).
    Under g: unchanged, since (u g)(v g^-T)^T = u v^T. Symmetry: GL(r).
    Parameters: (E + 3) h + (depth - 1) (h + 3) h + (h + 1) k with E = sum n m; with `unit_norm` also
    (L + 4) h + (h + 1) k.
    Cost: O(E (r + h)) per LoRA. Raises LayerError when the first layer's weights exceed `max_bytes`.
    Any rank; missing layers are zero updates.
    """

    name: ClassVar[str] = "dense"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        unit_norm: bool = True,
        hidden: int = 64,
        depth: int = 1,
        dropout: float = 0.1,
        max_bytes: int = 1 << 30,
    ) -> None:
        options = {"unit_norm": unit_norm, "hidden": hidden, "depth": depth, "dropout": dropout}
        super().__init__(
            signature, out_features, rank=rank, options=options | {"max_bytes": max_bytes}
        )
        entries = sum(layer.n * layer.m for layer in signature.layers)
        if (needed := 4 * hidden * entries) > max_bytes:
            raise LayerError(
                f"Building the model 'dense': the updates have {entries:,} entries, its first layer "
                f"would take {needed / 2**20:,.0f} MiB, expected at most "
                f"{max_bytes / 2**20:,.0f} MiB. Try fewer layers, a smaller hidden width, a higher "
                "max_bytes, or a model that keeps the factors, such as 'gl_net'."
            )
        self.unit_norm = unit_norm
        self.register_buffer("scale", torch.ones(len(signature)))  # in the order of shape groups
        self.head = MLPHead(entries, out_features, hidden=hidden, depth=depth, dropout=dropout)
        if unit_norm:
            self.norms = Sizes(signature, values=0)
            self.side = MLPHead(self.norms.width, out_features, hidden=hidden, dropout=dropout)

    def prepare(self, batch: LoRABatch) -> None:
        """Stores the layers' typical sizes and the statistics of the log norms."""
        if self.unit_norm:
            self.norms.fit(batch)
            return
        square = torch.cat(layer_norms(batch)).square().mean(1)  # (l,)
        typical = square / self._entries_per_layer(square)
        self.get_buffer("scale").copy_(torch.where(typical > 0, typical.rsqrt(), 1.0))

    def features(self, batch: LoRABatch) -> Features:
        """The batch, and with `unit_norm` its standardised log norms (b, L + 1)."""
        batch = batch.to(dtype=self.dtype)
        return (batch, self.norms(batch)) if self.unit_norm else batch

    def score(self, features: Features) -> Tensor:  # (b, k)
        """Forms the products, scales them and applies the networks."""
        batch, norms = features if isinstance(features, tuple) else (features, None)
        assert isinstance(batch, LoRABatch)
        out: Tensor = self.head(self.entries(batch))
        return out if norms is None else out + self.side(norms)

    def entries(self, batch: LoRABatch) -> Tensor:  # (b, E)
        """All scaled entries of each LoRA's updates."""
        scales = self.get_buffer("scale").unsqueeze(1)  # (l, 1)
        if self.unit_norm:
            norms = torch.cat(layer_norms(batch))  # (l, b)
            unit = torch.where(norms > 0, norms.reciprocal(), 0.0)
            scales = unit * self._entries_per_layer(norms).sqrt().unsqueeze(1)
        parts, start = [], 0
        for group in batch.groups:
            scale = scales[start : start + group.u.shape[0], :, None, None]  # (l, b or 1, 1, 1)
            product = (group.u * scale).mT @ group.v  # (l, b, n, m)
            parts.append(product.transpose(0, 1).flatten(1))
            start += group.u.shape[0]
        return torch.cat(parts, dim=1)

    def _entries_per_layer(self, like: Tensor) -> Tensor:  # (l,)
        sizes = [group.n * group.m for group in self.signature.groups() for _ in group.indices]
        return torch.tensor(sizes, dtype=like.dtype, device=like.device)
