"""Logistic regression in torch: on features, and on scores of left-out LoRAs (calibration).

    multilabel: p_k = sigmoid(w_k x + c_k)       multiclass: p = softmax(W x + c)

Both minimise the mean negative log likelihood, plus t |W|^2 / 2 for features, by L-BFGS in float64. The
calibration map has a slope that cannot be negative: scores of left-out LoRAs are slightly opposed to
their labels where there is nothing to learn, and an honest map then gives the base rate. What it is
not: a model; it knows numbers only.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lorascope.models.model import Kind

__all__ = ["Calibration", "LinearMap", "calibrate", "choose_logistic", "fit_logistic"]

STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
FOLDS = 5


class LinearMap(NamedTuple):
    """x -> x weights + intercept."""

    weights: Tensor  # (f, k)
    intercept: Tensor  # (k,)

    def __call__(self, x: Tensor) -> Tensor:  # (b, f) -> (b, k)
        return x @ self.weights + self.intercept


class Calibration(NamedTuple):
    """score -> slope score + offset, a logit."""

    slope: Tensor  # (k,), not negative
    offset: Tensor  # (k,)

    def __call__(self, score: Tensor) -> Tensor:  # (b, k) -> (b, k)
        return score * self.slope + self.offset


def negative_log_likelihood(logits: Tensor, y: Tensor, kind: Kind) -> Tensor:  # (b, k) twice -> ()
    """Mean over LoRAs (and, for multilabel, over labels)."""
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, y)
    return F.cross_entropy(logits, y)


def fit_logistic(
    x: Tensor,  # (b, f)
    y: Tensor,  # (b, k) 0 or 1
    kind: Kind,
    strength: float,
    start: LinearMap | None = None,
) -> LinearMap:
    """L2-regularised logistic regression; the intercept is not penalised."""
    labels = y.shape[1] if kind == "multilabel" else 1
    if start is None:
        start = LinearMap(x.new_zeros(x.shape[1], y.shape[1]), x.new_zeros(y.shape[1]))
    weights, intercept = (part.clone().requires_grad_() for part in start)

    def loss() -> Tensor:
        fit = negative_log_likelihood(x @ weights + intercept, y, kind)
        # the mean over labels is undone, so that each label has its own regression
        return (
            labels * fit + strength * weights.square().sum() / 2 + 1e-6 * intercept.square().sum()
        )

    _minimise(loss, [weights, intercept])
    return LinearMap(weights.detach(), intercept.detach())


def choose_logistic(
    x: Tensor,  # (b, f)
    y: Tensor,  # (b, k)
    kind: Kind,
    *,
    groups: Tensor,  # (b,) int64
    held_out: tuple[Tensor, Tensor] | None = None,
) -> LinearMap:
    """The logistic regression whose strength does best on held-out LoRAs, or over five folds.

    Folds keep each group together. Strengths are tried from the strongest to the weakest, each starting
    where the last one ended.
    """
    splits = [(x, y, *held_out)] if held_out else list(_folds(x, y, groups))
    losses = torch.zeros(len(STRENGTHS), dtype=x.dtype)
    falling = sorted(STRENGTHS, reverse=True)
    for train_x, train_y, test_x, test_y in splits:
        fitted: LinearMap | None = None
        for index, strength in enumerate(falling):
            fitted = fit_logistic(train_x, train_y, kind, strength, fitted)
            loss = negative_log_likelihood(fitted(test_x), test_y, kind)
            losses[index] += float(loss) * len(test_x)
    return fit_logistic(x, y, kind, falling[int(losses.argmin())])


def calibrate(score: Tensor, y: Tensor, kind: Kind) -> Calibration:  # (b, k) twice
    """The logistic map from scores of left-out LoRAs to logits (Platt 1999).

    One slope per label for multilabel, one for all classes for multiclass. Labels are drawn in from 0
    and 1 by Platt's counts, so that a label that never varies gets a finite logit.
    """
    per_label = kind == "multilabel"
    positive, total = y.sum(0), y.shape[0]
    targets = torch.where(y > 0.5, (positive + 1) / (positive + 2), 1 / (total - positive + 2))
    slope = score.new_ones(score.shape[1] if per_label else 1, requires_grad=True)
    offset = score.new_zeros(score.shape[1], requires_grad=True)

    def loss() -> Tensor:
        logits = score * F.softplus(slope) + offset
        penalty = 1e-3 * (offset.square().sum() + slope.square().sum()) / total
        if per_label:
            return F.binary_cross_entropy_with_logits(logits, targets) * len(offset) + penalty
        return F.cross_entropy(logits, y) + penalty

    _minimise(loss, [slope, offset])
    return Calibration(F.softplus(slope.detach()).expand_as(offset).clone(), offset.detach())


def _folds(x: Tensor, y: Tensor, groups: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Train and test parts; each group falls into one fold, drawn by a fixed seed."""
    _, index = torch.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(index.device)
    fold = order[index] % min(FOLDS, count)
    masks = [fold == number for number in range(int(fold.max()) + 1)]
    return [(x[~mask], y[~mask], x[mask], y[mask]) for mask in masks if bool((~mask).any())]


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """L-BFGS with a line search, until the gradient is small."""
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=100,
        tolerance_grad=1e-5,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]
