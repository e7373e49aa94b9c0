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

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0)
FOLDS = 5


class LinearMap(NamedTuple):
    """x -> x weights + intercept."""

    weights: Tensor  # (..., f, k)
    intercept: Tensor  # (..., 1, k) or (k,)

    def __call__(self, x: Tensor) -> Tensor:  # (b, f) -> (..., b, k)
        return x @ self.weights + self.intercept


class Calibration(NamedTuple):
    """score -> slope score + offset, a logit."""

    slope: Tensor  # (k,), not negative
    offset: Tensor  # (k,)

    def __call__(self, score: Tensor) -> Tensor:  # (b, k) -> (b, k)
        return score * self.slope + self.offset


def negative_log_likelihood(
    logits: Tensor,  # (..., b, k)
    y: Tensor,  # (b, k)
    kind: Kind,
) -> Tensor:  # (..., b)
    """Of each LoRA: the sum over its labels, or that of its class."""
    y = y.expand_as(logits)
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(-1)
    return -(y * logits.log_softmax(-1)).sum(-1)


def fit_logistic(
    x: Tensor,  # (b, f)
    y: Tensor,  # (b, k) 0 or 1
    kind: Kind,
    strength: float,
    *,
    masks: Tensor | None = None,  # (s, b) 0 or 1
    start: LinearMap | None = None,
) -> LinearMap:
    """L2-regularised logistic regression; the intercept is not penalised.

    `masks` fits several subsets of the LoRAs at once, each on the rows that its mask keeps: weights and
    intercepts then have a leading dimension s.
    """
    batch = () if masks is None else masks.shape[:1]
    keep = x.new_ones(len(x)) if masks is None else masks
    keep = keep / keep.sum(-1, keepdim=True)
    if start is None:
        zeros = x.new_zeros(*batch, x.shape[1], y.shape[1])
        start = LinearMap(zeros, zeros[..., :1, :])
    weights, intercept = (part.clone().requires_grad_() for part in start)

    def loss() -> Tensor:
        fit = (keep * negative_log_likelihood(x @ weights + intercept, y, kind)).sum()
        return fit + strength * weights.square().sum() / 2 + 1e-6 * intercept.square().sum()

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
    train, test = _fold_masks(groups, x.dtype)
    errors = []
    fitted: LinearMap | None = None
    for strength in (falling := sorted(STRENGTHS, reverse=True)):
        if held_out is None:
            fitted = fit_logistic(x, y, kind, strength, masks=train, start=fitted)
            errors.append(float((test * negative_log_likelihood(fitted(x), y, kind)).sum()))
        else:
            fitted = fit_logistic(x, y, kind, strength, start=fitted)
            errors.append(
                float(negative_log_likelihood(fitted(held_out[0]), held_out[1], kind).sum())
            )
    best = min(range(len(falling)), key=errors.__getitem__)
    solution = fit_logistic(x, y, kind, falling[best])
    return LinearMap(solution.weights, solution.intercept.squeeze(-2))


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
        truth = targets if per_label else y
        return negative_log_likelihood(logits, truth, kind).mean() + penalty

    _minimise(loss, [slope, offset])
    return Calibration(F.softplus(slope.detach()).expand_as(offset).clone(), offset.detach())


def _fold_masks(groups: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:  # (s, b) twice
    """Which LoRAs each fold trains on and tests on; a group falls into one fold, by a fixed seed."""
    _, index = torch.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    folds = min(FOLDS, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(index.device)
    test = (order[index] % folds) == torch.arange(folds, device=index.device).unsqueeze(1)
    # one group alone cannot be left out: it trains and tests
    train = ~test if folds > 1 else test
    return train.to(dtype), test.to(dtype)


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """L-BFGS with a line search, until the gradient is small."""
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=100,
        tolerance_grad=1e-4,
        tolerance_change=1e-7,
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
