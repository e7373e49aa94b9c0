"""MLP + SVD: a network on the singular values of every layer's update.

It sees how much and in how many directions an adapter moved, never which directions: the baseline
that shows how far sizes alone go (paper, section 1.2; sizes alone reach R^2 .98 on scores there).
"""

from typing import Any, ClassVar

from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.heads import MLPHead
from lorascope.models.model import Features, Model
from lorascope.models.spectra import Sizes

__all__ = ["SVD"]


class SVD(Model):
    """MLP on singular values and norms, by default their logarithms.

    Source: paper section 1.2 ("MLP+SVD"), which feeds the raw values (`logarithm=False`).
    Equation: MLP(standardise(log s_1 .. log s_q of u_l v_l^T, log norms, for all l)).
    Under g: unchanged, since singular values belong to the product. Symmetry: GL(r). Not expressive:
    directions are lost.
    Parameters: (F + 3) h + (depth - 1) (h + 3) h + (h + 1) k with F = layers (q + 1) + 1.
    Cost: QR of both factors and an r x r SVD, O((n + m) r^2) per layer; then O(F h).
    Any rank: the `values` largest are read (the training rank by default), as the paper does for other
    ranks; the norm is of all. A missing layer is taken at the training mean.
    """

    name: ClassVar[str] = "svd"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        values: int | None = None,
        logarithm: bool = True,
        hidden: int = 256,
        depth: int = 2,
        dropout: float = 0.1,
    ) -> None:
        options: dict[str, Any] = {"values": values, "logarithm": logarithm}
        options |= {"hidden": hidden, "depth": depth, "dropout": dropout}
        super().__init__(signature, out_features, rank=rank, options=options)
        self.sizes = Sizes(signature, values=values or rank, logarithm=logarithm)
        self.head = MLPHead(
            self.sizes.width, out_features, hidden=hidden, depth=depth, dropout=dropout
        )

    def prepare(self, batch: LoRABatch) -> None:
        """Stores floors, means and deviations of the training LoRAs' spectra."""
        self.sizes.fit(batch)

    def features(self, batch: LoRABatch) -> Tensor:  # (b, F)
        """The standardised spectra."""
        return self.sizes(batch)

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The network's outputs."""
        return self.head(features)
