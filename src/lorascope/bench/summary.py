"""The numbers of a suite's tables: scores by seed, their means and standard errors, and paired differences.

    standard error   deviation over the seeds * sqrt(1 / seeds + test rows / training rows); a seed is a split,
                     an order and a start
    paired           differences are taken seed by seed, on the same split, then averaged
    skill            score - score of `majority` on the same set
    beats            the mean paired gain over a control is above its standard error
    lead             how much better the default is than another method, paired

Splits of one zoo share rows, so that deviation / sqrt(seeds) is too small: this is the corrected error of
Nadeau and Bengio (Machine Learning 52, 2003), 1.36 times that of three independent splits of 70 and 20 %.

It knows nothing of Markdown or plots.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lorascope.bench.choice import by_seed, chosen_trials, columns_of, leaders
from lorascope.bench.jobs import Run, Stage
from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.record import Asked
from lorascope.bench.table import MAJORITY
from lorascope.io.folds import FRACTIONS
from lorascope.train.metrics import LOWER_IS_BETTER

__all__ = ["OVERLAP", "Estimate", "Place", "Summary", "estimate", "paired"]

OVERLAP = FRACTIONS[2] / FRACTIONS[0]  # test rows for each training row


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its corrected standard error, NaN where there are fewer than two."""

    mean: float
    error: float
    seeds: int

    @property
    def known(self) -> bool:
        """Whether there is any."""
        return self.seeds > 0


def estimate(scores: Mapping[int, float]) -> Estimate:
    """The mean of some scores and its corrected standard error."""
    values = list(scores.values())
    if not values:
        return Estimate(math.nan, math.nan, 0)
    factor = math.sqrt(1 / len(values) + OVERLAP)
    error = float(np.std(values, ddof=1)) * factor if len(values) > 1 else math.nan
    return Estimate(float(np.mean(values)), error, len(values))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """The mean of first - second over the seeds that both have."""
    return estimate({seed: first[seed] - second[seed] for seed in first if seed in second})


@dataclass(frozen=True)
class Place:
    """Where methods are scored: the zoo they learned from, the set, the stage, how many LoRAs (None: all)."""

    zoo: str
    on: str = "test"
    stage: Stage = "score"
    loras: int | None = None

    @property
    def where(self) -> dict[str, Any]:
        """What `Summary.scores` asks beside zoo, method and column."""
        return {"on": self.on, "stage": self.stage, "loras": self.loras}


@dataclass(frozen=True)
class Summary:
    """All runs of a suite, and no other (`asked_runs`), to be asked for scores.

    A *column* is a target, or several that share one (`MERGED`).
    """

    asked: Asked
    runs: Sequence[Run]

    @cached_property
    def _sorted(self) -> dict[tuple[str, str, str, int | None], list[Run]]:
        found: dict[tuple[str, str, str, int | None], list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: (run.seed, run.key)):
            if run.zoo in self.asked.zoos:
                key = run.stage, run.zoo, run.method, run.loras
                found.setdefault(key, []).append(run)
        return found

    @cached_property
    def _chosen(self) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
        return {}

    @cached_property
    def _leaders(self) -> dict[str, tuple[str, ...]]:
        return {}

    def chosen(self, zoo: str, method: str) -> dict[str, Mapping[str, Any]]:
        """The trial of a method on a zoo for each kind of target."""
        place = self.asked.suite.kinds.get(zoo, zoo), method
        if place not in self._chosen:
            self._chosen[place] = chosen_trials(self.asked, *place, self.runs)
        return self._chosen[place]

    def columns(self, zoo: str) -> dict[str, tuple[str, ...]]:
        """The columns of a zoo and their targets."""
        return columns_of(self.asked.zoos[zoo])

    def metric(self, zoo: str, column: str) -> str:
        """The metric of a column."""
        return str(self.asked.zoos[zoo].targets[self.columns(zoo)[column][0]]["metric"])

    def sign(self, zoo: str, column: str) -> float:
        """1 where more is better, else -1."""
        return -1.0 if self.metric(zoo, column) in LOWER_IS_BETTER else 1.0

    def ceiling(self, zoo: str, column: str) -> float | None:
        """What the labels allow, the mean over a column's targets; None where nobody knows."""
        known = self._ceilings(zoo, column, "")
        return float(np.mean(known)) if known else None

    def ceiling_error(self, zoo: str, column: str) -> float:
        """The standard error of a ceiling where the zoo tells it, else NaN."""
        known = self._ceilings(zoo, column, "_se")
        return math.hypot(*known) / len(known) if known else math.nan

    def _ceilings(self, zoo: str, column: str, ending: str) -> list[float]:
        """The ceilings of a column's targets, or their errors; nothing unless all are known."""
        facts = self.asked.zoos[zoo]
        found = [
            facts.ceilings.get(target, {}).get(f"{facts.targets[target]['metric']}{ending}")
            for target in self.columns(zoo)[column]
        ]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else []

    def runs_of(
        self, zoo: str, method: str, *, stage: Stage = "score", loras: int | None = None
    ) -> list[Run]:
        """The runs of a method on a zoo, by seed."""
        return self._sorted.get((stage, zoo, method, loras), [])

    def scores(
        self,
        zoo: str,
        method: str,
        column: str,
        *,
        on: str = "test",
        stage: Stage = "score",
        loras: int | None = None,
    ) -> dict[int, float]:
        """Score by seed of a method that was trained on a zoo, on one of the sets."""
        runs = self.runs_of(zoo, method, stage=stage, loras=loras)
        facts = self.asked.zoos[zoo]
        return by_seed(runs, facts, column, chosen=self.chosen(zoo, method), set_name=on)

    def error(self, zoo: str, method: str, on: str, *, stage: Stage = "score") -> str:
        """Why a method has no scores on a set, empty when nobody said."""
        for run in self.runs_of(zoo, method, stage=stage):
            if found := run.error or run.errors.get(on):
                return found
        return ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, controls apart."""
        return tuple(name for name in self.asked.suite.methods if not METHODS[name].control)

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls."""
        return tuple(name for name in self.asked.suite.methods if METHODS[name].control)

    def leaders(self, zoo: str) -> tuple[str, ...]:
        """The leaders of a zoo's table."""
        parent = self.asked.suite.kinds.get(zoo, zoo)
        if parent not in self._leaders:
            self._leaders[parent] = leaders(self.asked, parent, self.runs)
        return self._leaders[parent]

    def compared(self, zoo: str) -> list[str]:
        """The controls and the leaders of a zoo, in the order of the tables."""
        chosen = {*self.controls, *self.leaders(zoo)}
        return [name for name in self.asked.suite.methods if name in chosen]

    def best(
        self, zoo: str, column: str, names: Sequence[str] | None = None, **where: Any
    ) -> str | None:
        """The method of best mean on a column; None where none has a score."""
        sign = self.sign(zoo, column)
        means = {
            name: sign * estimate(self.scores(zoo, name, column, **where)).mean
            for name in (self.methods if names is None else names)
        }
        known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        return max(known, key=known.__getitem__) if known else None

    def lost_to(self, zoo: str, method: str, column: str, **where: Any) -> list[str]:
        """The controls that a method does not beat."""
        own = self.scores(zoo, method, column, **where)
        sign = self.sign(zoo, column)
        lost = []
        for control in self.controls:
            gain = paired(own, self.scores(zoo, control, column, **where))
            if gain.known and not sign * gain.mean > np.nan_to_num(gain.error):
                lost.append(control)
        return lost

    def lead(self, place: Place, column: str, name: str) -> Estimate:
        """How much better the default is than another method, paired by seed; more is better."""
        sign = self.sign(place.zoo, column)
        gain = paired(
            self.scores(place.zoo, DEFAULT, column, **place.where),
            self.scores(place.zoo, name, column, **place.where),
        )
        return Estimate(sign * gain.mean, gain.error, gain.seeds)

    def tested(self, zoo: str, on: str) -> tuple[int, int] | None:
        """The fewest and the most LoRAs of another zoo that any run was tested on."""
        counts = {
            run.rows[on]
            for name in self.asked.suite.methods
            for run in self.runs_of(zoo, name)
            if on in run.rows
        }
        return (min(counts), max(counts)) if counts else None

    def skill(self, zoo: str, method: str, column: str, on: str = "test") -> dict[int, float]:
        """Score minus that of the majority on the same set, by seed, more being better."""
        own = self.scores(zoo, method, column, on=on)
        constant = self.scores(zoo, MAJORITY, column, on=on)
        sign = self.sign(zoo, column)
        return {s: sign * (own[s] - constant[s]) for s in own if s in constant}

    def kept(self, zoo: str, method: str, column: str, on: str) -> float:
        """The share of its skill that a method keeps on another set; NaN without skill at home."""
        home = estimate(self.skill(zoo, method, column)).mean
        there = estimate(self.skill(zoo, method, column, on)).mean
        return there / home if home > 0.01 else math.nan
