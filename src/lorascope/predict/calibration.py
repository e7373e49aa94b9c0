"""Calibrated probabilities: logits of LoRAs that the model never saw -> logits whose probabilities hold.

    multilabel   p_k = sigmoid(slope_k z_k + offset_k)      (Platt 1999)
    multiclass   p   = softmax(slope z)                      (temperature 1 / slope; Guo et al. 2017)

A class has a slope and an offset of its own where enough of the held-out LoRAs are of it and enough are not,
pulled to those that all classes share; the others have the shared ones. A map is kept only where it lowers the
loss on groups that it was not fitted on, by more than the standard error of that. `calibration_error` says what
it bought. Not a model: it knows numbers only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lorascope.errors import DataError
from lorascope.predict.target import Kind

__all__ = ["ProbabilityMap", "calibration_error", "fit_probability_map"]

Array = NDArray[np.float64]
FEWEST_GROUPS = 30  # held out, below which a map would say more of them than of others
ENOUGH = 20  # LoRAs of a class, and not of it, for a slope of its own
PULL = 5.0  # how many LoRAs the shared slope and offset weigh
FOLDS = 5
BINS = 15
LARGEST = 30.0  # logits are cut here: e^-30 is no probability that data could show


@dataclass(frozen=True)
class ProbabilityMap:
    """z -> slope z + offset for each class, slopes positive.

    Raises DataError for slopes that are not positive or unequal lengths.

    Example:
        >>> ProbabilityMap((0.5,), (1.0,)).apply(np.array([[2.0]])).tolist()
        [[2.0]]
    """

    slope: tuple[float, ...]
    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (*self.slope, *self.offset)
        if len(self.slope) != len(self.offset) or not np.isfinite(numbers).all():
            raise DataError(
                f"A map of probabilities with slopes {self.slope} and offsets {self.offset}: expected as many "
                "finite slopes as offsets."
            )
        if min(self.slope, default=1.0) < 0:
            raise DataError(
                f"A map of probabilities with slopes {self.slope}: expected none below 0."
            )

    @classmethod
    def identity(cls, classes: int) -> "ProbabilityMap":
        """The map that leaves logits as they are."""
        return cls((1.0,) * classes, (0.0,) * classes)

    def apply(self, logits: Array) -> Array:  # (b, k) -> (b, k)
        """Calibrated logits."""
        return np.asarray(logits * np.array(self.slope) + np.array(self.offset))

    def to_json(self) -> dict[str, list[float]]:
        """Plain data, the inverse of `from_json`."""
        return {"slope": list(self.slope), "offset": list(self.offset)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ProbabilityMap":
        """A map from plain data."""
        return cls(tuple(float(x) for x in data["slope"]), tuple(float(x) for x in data["offset"]))


def fit_probability_map(
    kind: Kind,
    logits: Array,  # (b, k)
    y: Array,  # (b, k) 0 or 1
    groups: Sequence[object] | None = None,
) -> ProbabilityMap:
    """The map that calibrates logits of held-out LoRAs; the identity where none lowers the loss,
    and for fewer than 30 groups.

    `groups` names what the LoRAs share: groups are left out together when maps are compared.
    Raises DataError where shapes differ or there is no LoRA.
    """
    if logits.shape != y.shape or logits.ndim != 2 or len(y) == 0:
        raise DataError(
            f"Calibrating probabilities: found logits {logits.shape} and labels {y.shape}, expected the same "
            "(rows, classes) with at least one row."
        )
    logits = np.clip(logits, -LARGEST, LARGEST)
    fitters = [_shared] if kind == "multiclass" else [_shared, _own]
    folds = _folds(len(y), groups)
    if len(set(range(len(y)) if groups is None else map(str, groups))) < FEWEST_GROUPS:
        return ProbabilityMap.identity(y.shape[1])
    best, least = None, row_losses(kind, logits, y)
    for fitter in fitters:
        found = _left_out(kind, fitter, logits, y, folds)
        gain = least - found
        if np.isfinite(gain).all() and gain.mean() > gain.std() / len(gain) ** 0.5:
            best, least = fitter, found
    return ProbabilityMap.identity(y.shape[1]) if best is None else best(kind, logits, y)


def calibration_error(kind: Kind, probabilities: Array, y: Array) -> float:
    """Expected calibration error over 15 equal bins of probability.

    Multi-label: every class of every LoRA is a case. Multi-class: the most probable class of every LoRA (Guo
    et al. 2017).

    Example:
        >>> round(calibration_error("multilabel", np.full((4, 1), 0.9), np.ones((4, 1))), 3)
        0.1
    """
    if kind == "multiclass":
        rows = np.arange(len(y))
        top = probabilities.argmax(1)
        p, hit = probabilities[rows, top], y[rows, top]
    else:
        p, hit = probabilities.ravel(), y.ravel()
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, hit - p, minlength=BINS)
    return float(np.abs(gaps).sum() / max(len(p), 1))


def row_losses(kind: Kind, logits: Array, y: Array) -> Array:  # (b,)
    """Negative log likelihood of each row: the sum over its labels, or that of its class."""
    if kind == "multiclass":
        top = logits.max(1, keepdims=True)
        log_total = np.log(np.exp(logits - top).sum(1, keepdims=True)) + top
        return np.asarray(((log_total - logits) * y).sum(1))
    return np.asarray((np.logaddexp(0.0, logits) - y * logits).sum(1))


def loss(kind: Kind, logits: Array, y: Array) -> float:
    """Mean negative log likelihood of a row."""
    return float(row_losses(kind, logits, y).mean())


def _shared(kind: Kind, logits: Array, y: Array) -> ProbabilityMap:
    """One slope for all classes, and one offset for labels."""
    classes = y.shape[1]

    def of(x: Array) -> ProbabilityMap:
        offset = 0.0 if kind == "multiclass" else float(x[1])
        return ProbabilityMap((float(np.exp(x[0])),) * classes, (offset,) * classes)

    def objective(x: Array) -> float:
        pull = PULL * (x[0] ** 2 + x[1] ** 2) / 2 / len(y)
        return loss(kind, of(x).apply(logits), y) + float(pull)

    return of(minimize(objective, np.zeros(2), method="L-BFGS-B", bounds=[(-4, 4)] * 2).x)


def _own(kind: Kind, logits: Array, y: Array) -> ProbabilityMap:
    """A slope and an offset for each class that has enough cases."""
    shared = _shared(kind, logits, y)
    slopes, offsets = list(shared.slope), list(shared.offset)
    start = np.array([np.log(slopes[0]), offsets[0]])
    for k in range(y.shape[1]):
        z, there = logits[:, k : k + 1], y[:, k : k + 1]
        if min(there.sum(), len(there) - there.sum()) < ENOUGH:
            continue

        def objective(x: Array, z: Array = z, there: Array = there) -> float:
            pull = PULL * float(((x - start) ** 2).sum()) / 2 / len(there)
            return loss(kind, np.exp(x[0]) * z + x[1], there) + pull

        found = minimize(objective, start, method="L-BFGS-B", bounds=[(-4, 4)] * 2).x
        slopes[k], offsets[k] = float(np.exp(found[0])), float(found[1])
    return ProbabilityMap(tuple(slopes), tuple(offsets))


def _folds(count: int, groups: Sequence[object] | None) -> NDArray[np.int64]:
    """The fold of each row; rows of a group share one."""
    names = np.arange(count) if groups is None else np.array([str(group) for group in groups])
    unique, number = np.unique(names, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(unique))
    return np.asarray(order[number] % FOLDS, dtype=np.int64)


def _left_out(
    kind: Kind, fitter: Any, logits: Array, y: Array, folds: NDArray[np.int64]
) -> Array:  # (b,)
    """The losses of rows left out of the fit; infinite where nothing else is there to fit on."""
    losses = np.full(len(y), np.inf)
    for fold in np.unique(folds):
        out = folds == fold
        if not out.all():
            found = fitter(kind, logits[~out], y[~out]).apply(logits[out])
            losses[out] = row_losses(kind, found, y[out])
    return losses
