"""Parts of a model's outputs: one target each, with its own loss, when several are trained at once.

    loss = mean over parts of loss_t / unit_t,    loss_t over the rows that have a label of t

`unit` is what counts as 1: with several targets the loss of the best constant on the training rows, so that
each weighs the same whatever its kind. A label that is missing is NaN and takes no part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lorascope.predict.target import Kind

__all__ = ["Part", "loss_of", "part_losses", "score_of", "total_loss", "with_units"]


@dataclass(frozen=True)
class Part:
    """Which columns of outputs and labels belong to a target, how they are read, and what counts as 1.

    `known` is the share of the training rows that have a label.
    """

    name: str
    kind: Kind
    columns: slice
    unit: float = 1.0
    known: float = 1.0

    def labelled(self, y: Tensor) -> Tensor:  # (b, K) -> (b,) bool
        """The rows that have a label."""
        return ~y[:, self.columns].isnan().any(1)


def loss_of(kind: Kind, outputs: Tensor, y: Tensor) -> Tensor:
    """Mean squared error, binary or multi-class cross-entropy; outputs and y: (b, k)."""
    if kind == "regression":
        return F.mse_loss(outputs, y)
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(outputs, y)
    return F.cross_entropy(outputs, y.argmax(1))


def score_of(kind: Kind, outputs: Tensor, y: Tensor) -> tuple[str, float]:
    """A score to watch: R^2 or accuracy (NaN where it does not exist)."""
    if kind == "regression":
        total = float(((y - y.mean()) ** 2).sum())
        return "r2", 1 - float(((outputs - y) ** 2).sum()) / total if total > 0 else math.nan
    if kind == "multilabel":
        return "accuracy", float(((outputs > 0) == (y > 0.5)).float().mean())
    return "accuracy", float((outputs.argmax(1) == y.argmax(1)).float().mean())


def part_losses(parts: Sequence[Part], outputs: Tensor, y: Tensor) -> list[Tensor]:
    """The loss of each part over its labelled rows, 0 where there is none; outputs and y: (b, K)."""
    losses = []
    for part in parts:
        there = part.labelled(y)
        predicted, truth = outputs[:, part.columns], y[:, part.columns]
        if not bool(there.all()):
            predicted, truth = predicted[there], truth[there]
        # an empty mean is not a number; the sum of nothing is 0 and keeps the graph whole
        losses.append(loss_of(part.kind, predicted, truth) if len(truth) else predicted.sum())
    return losses


def total_loss(parts: Sequence[Part], outputs: Tensor, y: Tensor) -> Tensor:
    """The mean of the parts' losses in their units.

    A part counts in a minibatch by how many of its rows have a label against the share in the whole set:
    so the expected gradient is that of the mean over all labelled rows.
    """
    losses = part_losses(parts, outputs, y)
    if len(parts) == 1:
        return losses[0] / parts[0].unit
    shares = [part.labelled(y).to(y.dtype).mean() / part.known for part in parts]
    weighted = [
        loss * share / part.unit for part, loss, share in zip(parts, losses, shares, strict=True)
    ]
    return torch.stack(weighted).mean()


def with_units(parts: Sequence[Part], y: Tensor) -> list[Part]:  # y: (b, K) of the training rows
    """The parts with the loss of the best constant as their unit, and the share of labelled rows."""
    found = []
    for part in parts:
        truth = y[part.labelled(y)][:, part.columns].double()
        mean = truth.mean(0)
        if part.kind == "regression":
            unit = float((truth - mean).square().mean())
        elif part.kind == "multilabel":
            unit = float((torch.special.entr(mean) + torch.special.entr(1 - mean)).mean())
        else:
            unit = float(torch.special.entr(mean).sum())
        # labels that never vary have nothing to be learned: their loss is left as it is
        known = len(truth) / len(y)
        found.append(replace(part, unit=unit if unit > 1e-6 else 1.0, known=known))
    return found
