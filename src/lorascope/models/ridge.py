"""Ridge and logistic regression on spectra and norms: the linear model of how much, not of what.

    f = w z + c,    z = standardise([log singular values, log norms])

What gauge-invariant sizes alone can tell, without a network; every directional model should beat it.
"""

from typing import ClassVar

from lorascope.core.signature import Signature
from lorascope.models.closed_form import ChooseBy
from lorascope.models.linear_model import LinearModel
from lorascope.models.spectra import Sizes

__all__ = ["Ridge"]


class Ridge(LinearModel):
    """Ridge regression (values) or logistic regression (labels, classes) on spectral features.

    Source: the linear control of the field (feasibility of sizes alone; paper section 3.4, where
    spectra reach R^2 .98). How strengths are chosen: see `LinearModel`.
    Equation: w^T standardise(log s_1 .. log s_q, log norms for all l) + c.
    Under g: unchanged, since singular values belong to the product. Symmetry: GL(r).
    Numbers learned: (F + 1) k with F = layers (q + 1) + 1, beside 3 F statistics.
    Cost: O((n + m) r^2) per layer for the spectra; fitting O(N^2 F + N^3) for N LoRAs (regression).
    Any rank: the `values` largest are read. A missing layer is taken at the training mean.
    """

    name: ClassVar[str] = "ridge"

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        values: int | None = None,
        choose_by: ChooseBy = "left_out",
    ) -> None:
        super().__init__(
            signature,
            out_features,
            rank=rank,
            choose_by=choose_by,
            numbers=Sizes(signature, values=values or rank),
            options={"values": values},
        )
