"""What the linear models share: ridge (values) or logistic (labels, classes) regression on fixed numbers.

    f = w z + c,    z = standardised numbers of a LoRA, free of weights

A subclass brings the numbers as a module `numbers`: `fit(batch)` stores statistics, calling it gives (b, F).
What it is not: a model of its own.
"""

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.closed_form import ChooseBy, ClosedForm, Labels, Study
from lorascope.models.logistic import LinearMap, choose_logistic
from lorascope.models.model import Features
from lorascope.models.smoother import Smoother

__all__ = ["LinearModel", "Numbers"]


class Numbers(Protocol):
    """Standardised numbers of LoRAs."""

    width: int

    def fit(self, batch: LoRABatch) -> None:
        """Stores the statistics of the training LoRAs."""

    def __call__(self, batch: LoRABatch) -> Tensor:
        """(b, width)."""


class LinearModel(ClosedForm):
    """Ridge regression by exact leave-one-out (leave-group-out), or L2 logistic regression by five folds.

    With `choose_by="validation"` the strength is chosen on the validation LoRAs instead.
    """

    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True
    solved: tuple[str, ...] = ("weights", "intercept")

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        choose_by: ChooseBy,
        numbers: Any,  # a module that is Numbers
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(signature, out_features, rank=rank, choose_by=choose_by, options=options)
        self.numbers = numbers
        self.register_buffer("weights", torch.zeros(numbers.width, out_features))
        self.register_buffer("intercept", torch.zeros(out_features))

    def prepare(self, batch: LoRABatch) -> None:
        """Stores the statistics of the training LoRAs' numbers."""
        self.numbers.fit(batch)

    def features(self, batch: LoRABatch) -> Tensor:  # (b, F)
        """The standardised numbers."""
        numbers: Tensor = self.numbers(batch)
        return numbers

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The linear map."""
        assert isinstance(features, Tensor)
        return features @ self.get_buffer("weights") + self.get_buffer("intercept")

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Statistics, and the numbers in float64."""
        batch = batch.to(self.dtype, self.device)
        self.prepare(batch)
        beside = None
        if held is not None:
            beside = (self.features(held.to(self.dtype, self.device)).double(),)
        return Study(batch.size, (self.features(batch).double(),), beside)

    @torch.no_grad()
    def solve(self, study: Study, labels: Labels) -> None:
        """Fills weights and intercept."""
        assert isinstance(study.facts[0], Tensor)
        x, held = study.facts[0][labels.rows], None
        if labels.held is not None:
            assert study.held is not None
            assert isinstance(study.held[0], Tensor)
            held = study.held[0][labels.held[0]], labels.held[1]
        if labels.kind == "regression":
            smoother = study.once(labels.key, lambda: Smoother(x @ x.T, labels.groups))
            solution = _ridge(x, labels.y, held, smoother)
        else:
            groups = labels.rows if labels.groups is None else labels.groups
            solution = choose_logistic(x, labels.y, labels.kind, groups=groups, held_out=held)
        self.get_buffer("weights").copy_(solution.weights)
        self.get_buffer("intercept").copy_(solution.intercept)


def _ridge(
    x: Tensor, y: Tensor, held: tuple[Tensor, Tensor] | None, smoother: Smoother
) -> LinearMap:
    choice = smoother.choose(y, held and (held[0] @ x.T, held[1]))
    dual, intercept = smoother.solve(y, choice.strength)
    return LinearMap(x.T @ dual, intercept)
