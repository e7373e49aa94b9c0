"""Several ridge regressions of the same LoRAs, stacked by their left-out predictions, as duals to be added up.

    f = sum_s w_s f_s,  f_s(x) = a_s^T k_s(x) + c_s

What it is not: a model; it knows kernels and labels only.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorascope.models.closed_form import Labels
from lorascope.models.curve import learn_curve, no_curve
from lorascope.models.logistic import calibrate
from lorascope.models.mixed_kernels import Kernels, Mixture
from lorascope.models.smoother import Smoother
from lorascope.models.stacking import mix, stack

__all__ = ["smoothers_of", "stack_each", "stack_ridges"]

LEAST_DEVIATION = 0.05  # of left-out predictions: what nothing is known of is not blown up


def smoothers_of(
    kernels: Kernels, mixtures: Mapping[str, Mixture], groups: Tensor | None
) -> dict[str, Smoother]:
    """The ridges of some mixtures of kernels."""
    return {name: Smoother(kernels.mixed(mixture), groups) for name, mixture in mixtures.items()}


def stack_ridges(smoothers: Sequence[Smoother], labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
    """Duals (s, b, k) of ridges stacked on one target, the intercept (k,) of their sum, and a curve (6, k).

    The sum is a calibrated logit, or what the curve of `curve.py` makes a value.
    """
    regression = labels.kind == "regression"
    y = labels.y if regression else 2 * labels.y - 1
    mean = y.mean(0)
    choices = [smoother.choose(y) for smoother in smoothers]
    left_out = torch.stack([choice.left_out for choice in choices])
    weights = stack(left_out, labels.y, labels.kind)
    duals = y.new_zeros(len(smoothers), *y.shape)
    intercept = mean * (1 - weights.sum())
    for place, (smoother, choice) in enumerate(zip(smoothers, choices, strict=True)):
        solution, offset = smoother.solve(y, choice.strength)
        duals[place] = weights[place] * solution
        intercept = intercept + weights[place] * offset
    told = mix(left_out, weights, mean)
    if regression:
        return duals, intercept, learn_curve(told, y)
    logit = calibrate(told, labels.y, labels.kind)
    return duals * logit.slope, logit(intercept), no_curve(y.shape[1]).to(y)


def stack_each(
    smoothers: Sequence[Smoother], y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:  # (b, k) -> (s, b, k), (k,), (b, k)
    """Duals, intercept and left-out predictions of ridges that are stacked on each column by itself.

    Columns of `y` have mean 0 and deviation 1; what is predicted is brought to deviation 1.
    """
    choices = [smoother.choose_each(y) for smoother in smoothers]
    left_out = torch.stack([found for _, found in choices])
    columns = range(y.shape[1])
    weights = torch.stack(
        [stack(left_out[..., k : k + 1], y[:, k : k + 1], "regression") for k in columns], 1
    )
    told = (weights.unsqueeze(1) * left_out).sum(0)
    weights = weights / told.std(0, correction=0).clamp(min=LEAST_DEVIATION)
    duals = y.new_zeros(len(smoothers), *y.shape)
    intercept = y.new_zeros(y.shape[1])
    for place, (smoother, (strengths, _)) in enumerate(zip(smoothers, choices, strict=True)):
        solution, offset = smoother.solve(y, strengths)
        duals[place] = weights[place] * solution
        intercept = intercept + weights[place] * offset
    return duals, intercept, (weights.unsqueeze(1) * left_out).sum(0)
