"""Ridge and logistic regression on spectra and norms: the linear model of how much, not of what.

    f = w z + c,    z = standardise([log singular values, log norms])

What gauge-invariant sizes alone can tell, without a network; every directional model should beat it.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.logistic import LinearMap, choose_logistic
from lorascope.models.model import ChooseBy, ClosedForm, Features, Kind
from lorascope.models.smoother import Smoother
from lorascope.models.spectra import Sizes

__all__ = ["Ridge"]


class Ridge(ClosedForm):
    """Ridge regression (values) or logistic regression (labels, classes) on spectral features.

    Source: the linear control of the field (feasibility of sizes alone; paper section 3.4, where
    spectra reach R^2 .98). Regression: strength by exact leave-one-out (leave-group-out). Labels and
    classes: L2 logistic regression, strength by five folds over groups. With
    `choose_by="validation"` the strength is chosen on the validation LoRAs instead.
    Equation: w^T standardise(log s_1 .. log s_q, log norms for all l) + c.
    Under g: unchanged, since singular values belong to the product. Symmetry: GL(r).
    Numbers learned: (F + 1) k with F = layers (q + 1) + 1, beside 3 F statistics.
    Cost: O((n + m) r^2) per layer for the spectra; fitting O(N^2 F + N^3) for N LoRAs (regression).
    Any rank: the `values` largest are read. A missing layer is taken at the training mean.
    """

    name: ClassVar[str] = "ridge"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True

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
            signature, out_features, rank=rank, choose_by=choose_by, options={"values": values}
        )
        self.sizes = Sizes(signature, values=values or rank)
        self.register_buffer("weights", torch.zeros(self.sizes.width, out_features))
        self.register_buffer("intercept", torch.zeros(out_features))

    def prepare(self, batch: LoRABatch) -> None:
        """Stores floors, means and deviations of the training LoRAs' spectra."""
        self.sizes.fit(batch)

    def features(self, batch: LoRABatch) -> Tensor:  # (b, F)
        """The standardised spectra and norms."""
        return self.sizes(batch)

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The linear map."""
        assert isinstance(features, Tensor)
        return features @ self.get_buffer("weights") + self.get_buffer("intercept")

    @torch.no_grad()
    def fit(
        self,
        batch: LoRABatch,
        y: Tensor,
        *,
        kind: Kind,
        validation: tuple[LoRABatch, Tensor] | None = None,
        groups: Tensor | None = None,
    ) -> None:
        """Solves for the training LoRAs; see `ClosedForm.fit`."""
        self.check(batch)
        batch = batch.to(self.dtype, self.device)
        targets = self.targets(batch, y, kind)
        self.prepare(batch)
        x = self.features(batch).double()
        held_out = self.held_out(validation, kind)
        held = (
            None
            if held_out is None
            else (self.features(held_out[0].to(self.dtype, self.device)).double(), held_out[1])
        )
        if kind == "regression":
            solution = self._ridge(x, targets, held, groups)
        else:
            each = torch.arange(len(x), device=x.device) if groups is None else groups
            solution = choose_logistic(x, targets, kind, groups=each, held_out=held)
        self.get_buffer("weights").copy_(solution.weights)
        self.get_buffer("intercept").copy_(solution.intercept)

    def _ridge(
        self, x: Tensor, y: Tensor, held: tuple[Tensor, Tensor] | None, groups: Tensor | None
    ) -> LinearMap:
        smoother = Smoother(x @ x.T, groups)
        choice = smoother.choose(y, held and (held[0] @ x.T, held[1]))
        dual, intercept = smoother.solve(y, choice.strength)
        return LinearMap(x.T @ dual, intercept)
