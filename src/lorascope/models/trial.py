"""Whether what is learned on top is worth it: tried on LoRAs that no part of it has seen.

Predictions of LoRAs left out of one step are not left out of the next one, which learns from them: the numbers
that a LoRA is given depend on the labels of all others, and who compares these numbers sees a little of the
label that was left out. So an error that is measured within a stack of steps praises it. Here whole groups of
LoRAs stay outside of all steps (nested cross-validation, Stone 1974; Cawley and Talbot 2010).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lorascope.models.closed_form import Labels
from lorascope.models.logistic import negative_log_likelihood
from lorascope.models.model import Kind

__all__ = ["Trial", "losses", "trials", "worth_it"]

MOST = 600  # LoRAs that are tried on: the price of a trial rises with their cube
FOLDS = 4
SURE = 3.0  # standard errors by which a mean must be beaten to say that anything is learned


class Trial(NamedTuple):
    """Some labels to learn from, and LoRAs with their labels that stay outside."""

    labels: Labels
    rows: Tensor  # (B,) int64, of the study
    y: Tensor  # (B, k)


def trials(labels: Labels, most: int = MOST, folds: int = FOLDS) -> Iterator[Trial]:
    """Each part of some LoRAs once outside, groups whole; none where there is but one group.

    Example:
        >>> y = torch.arange(6.0).double().unsqueeze(1)
        >>> labels = Labels(y, "regression", torch.arange(6), groups=torch.tensor([0, 0, 1, 1, 2, 2]))
        >>> [len(trial.rows) for trial in trials(labels)]
        [2, 2, 2]
    """
    fold = _folds(labels, most, folds)
    for outside in range(int(fold.max()) + 1):
        inner, outer = fold.ne(outside) & (fold >= 0), fold == outside
        if bool(inner.any()):
            yield Trial(_taken(labels, inner), labels.rows[outer], labels.y[outer])


def worth_it(labels: Labels, attempt: Callable[[Trial, bool], Tensor]) -> bool:
    """Whether to make an addition; False where nothing can be tried.

    `attempt` says what is predicted of a trial's LoRAs without the addition and with it. It is made where it
    lowers the loss or leaves it as it is. Where it raises the loss by no more than chance may, it is made if
    there is something to learn: a trial has fewer LoRAs than there are, and more make additions better.
    """
    gains, skills = [], []
    for trial in trials(labels):
        without, added = (
            losses(attempt(trial, adding), trial.y, labels.kind) for adding in (False, True)
        )
        gains.append(without - added)
        skills.append(losses(_guess(trial), trial.y, labels.kind) - without)
    if not gains:
        return False
    gain, skill = torch.cat(gains), torch.cat(skills)
    learned = bool(skill.mean() > SURE * _error(skill))
    return bool(gain.mean() >= (-_error(gain) if learned else 0.0))


def _error(x: Tensor) -> Tensor:
    """The standard error of a mean."""
    return x.std(correction=0) / len(x) ** 0.5


def _guess(trial: Trial) -> Tensor:  # (B, k)
    """What is said of a trial's LoRAs by who knows the mean of the labels alone."""
    mean = trial.labels.y.mean(0)
    if trial.labels.kind != "regression":
        share = mean.clamp(1e-3, 1 - 1e-3)
        mean = share.logit() if trial.labels.kind == "multilabel" else share.log()
    return mean.expand(len(trial.y), -1)


def losses(score: Tensor, y: Tensor, kind: Kind) -> Tensor:  # (b, k) twice -> (b,)
    """What a trial compares: squared errors of values, log losses of labels and classes."""
    if kind == "regression":
        return (score - y).square().mean(1)
    return negative_log_likelihood(score.to(y.dtype), y, kind)


def _folds(
    labels: Labels, most: int, folds: int
) -> Tensor:  # (b,) int64, -1 for what takes no part
    """The fold of each LoRA: whole groups in an arbitrary order, dealt, until there are enough."""
    count = len(labels.rows)
    own = torch.arange(count, device=labels.rows.device)
    _, group = torch.unique(own if labels.groups is None else labels.groups, return_inverse=True)
    sizes = torch.bincount(group)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0)).to(group.device)
    before = sizes[order].cumsum(0) - sizes[order]
    place = torch.empty_like(order)
    place[order] = torch.where(before < most, torch.arange(len(order)).to(order) % folds, -1)
    return place[group]


def _taken(labels: Labels, chosen: Tensor) -> Labels:
    """The labels of some of the LoRAs."""
    return replace(
        labels,
        y=labels.y[chosen],
        rows=labels.rows[chosen],
        groups=None if labels.groups is None else labels.groups[chosen],
        beside=None if labels.beside is None else labels.beside[chosen],
    )
