"""Stacking: how much each of several models says, by their predictions of LoRAs that they had not seen.

    combined = mean + sum_s w_s (f_s - mean),    w >= 0 of least squared error       (Breiman 1996)

For labels and classes a model alone is taken where its calibrated log loss is less than that of the
combination: squared error is not what is asked for there. What it is not: a model; it knows numbers only.
"""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from lorascope.models.logistic import calibrate, negative_log_likelihood
from lorascope.models.model import Kind

__all__ = ["stack"]


def stack(left_out: Tensor, y: Tensor, kind: Kind) -> Tensor:  # (s, b, k), (b, k) -> (s,)
    """The weights of s models, from left-out predictions of values, or of labels as -1 and 1.

    `y` holds values, or 0 and 1. Weights need not sum to 1: predictions that say too much are shrunk.

    Example:
        >>> y = torch.tensor([[0.0], [1.0], [2.0]])
        >>> stack(torch.stack([y, 0 * y]), y, "regression").round().tolist()
        [1.0, 0.0]
    """
    truth = y if kind == "regression" else 2 * y - 1
    mean = truth.mean(0)
    columns = (left_out - mean).flatten(1).T.double().cpu().numpy()
    found, _ = nnls(columns, (truth - mean).flatten().double().cpu().numpy())
    weights: Tensor = torch.from_numpy(np.asarray(found)).to(left_out)
    if kind == "regression":
        return weights
    singles = torch.eye(len(left_out), dtype=left_out.dtype, device=left_out.device)
    candidates = [weights, *singles]
    losses = [_loss(mix(left_out, w, mean), y, kind) for w in candidates]
    best: Tensor = candidates[losses.index(min(losses))]
    return best


def mix(predictions: Tensor, weights: Tensor, mean: Tensor) -> Tensor:  # (s, b, k), (s,), (k,)
    """The combined predictions (b, k)."""
    mixed: Tensor = mean + torch.tensordot(weights, predictions - mean, 1)
    return mixed


def _loss(score: Tensor, y: Tensor, kind: Kind) -> float:
    """Mean negative log likelihood after calibration."""
    logits = calibrate(score, y, kind)(score)
    return float(negative_log_likelihood(logits, y, kind).mean())
