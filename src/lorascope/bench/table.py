"""The numbers of a benchmark's table: means and spreads over seeds, and what beats its controls.

    gain(seed) = score of the model - score of the control, with the sign that makes more better
    a model beats a control when the mean gain is above its standard error over the seeds (above 0 for one seed)

Gains are paired by seed, since a seed is a split: some splits are harder than others for everyone. It knows
nothing of terminals, Markdown or plots.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lorascope.bench.results import Plan, Result
from lorascope.predict.target import Target
from lorascope.train.metrics import LOWER_IS_BETTER

MAJORITY = "majority"


@dataclass(frozen=True)
class Cell:
    """The scores of a model on a target, one per seed, and how they stand to the controls.

    `loses_to` names the control of best mean that it does not beat (None: it beats them all); `below_majority`
    says that it does not even beat the majority or mean.
    """

    scores: Mapping[int, float] = field(default_factory=dict)
    error: str | None = None
    loses_to: str | None = None
    below_majority: bool = False

    @property
    def mean(self) -> float:
        """The mean over seeds, NaN without any."""
        return float(np.mean(list(self.scores.values()))) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation over seeds (of the sample), NaN for fewer than two."""
        found = list(self.scores.values())
        return float(np.std(found, ddof=1)) if len(found) > 1 else math.nan


@dataclass(frozen=True)
class Row:
    """A model or control: a cell per target, and what a run of it costs."""

    name: str
    control: bool
    cells: Mapping[str, Cell]
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Table:
    """All rows, controls first, in the order of the plan; ceilings by target."""

    plan: Plan
    rows: tuple[Row, ...]

    def ceiling(self, target: Target) -> float | None:
        """The highest score that the labels allow, where the zoo reports it for the metric of the table."""
        return self.plan.ceilings.get(target.name, {}).get(target.metric)

    def models(self) -> tuple[Row, ...]:
        """The rows that are no controls."""
        return tuple(row for row in self.rows if not row.control)

    def best(self, target: str) -> str | None:
        """The model of best mean on a target, None when none has a score."""
        metric = next(t.metric for t in self.plan.targets if t.name == target)
        scored = [row for row in self.models() if row.cells[target].scores]
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        return max(scored, key=lambda row: sign * row.cells[target].mean).name if scored else None


def build_table(plan: Plan, results: Sequence[Result]) -> Table:
    """The table of a plan from the results that belong to it; the last of several results counts."""
    latest = {
        (result.target, result.model, result.seed): result
        for result in results
        if plan.data.get(result.target) == result.data
    }
    rows = []
    for name, control in [(n, True) for n in plan.controls] + [(n, False) for n in plan.models]:
        cells = {target.name: _cell(plan, latest, target, name) for target in plan.targets}
        own = [result for (_, model, _), result in latest.items() if model == name]
        rows.append(
            Row(
                name,
                control,
                cells,
                parameters=max((result.parameters for result in own), default=0),
                seconds=float(np.mean([result.seconds for result in own])) if own else math.nan,
            )
        )
    return Table(plan, tuple(rows))


Latest = Mapping[tuple[str, str, int], Result]


def _cell(plan: Plan, latest: Latest, target: Target, name: str) -> Cell:
    scores = _scores(plan, latest, target, name)
    errors = [
        result.error
        for seed in plan.seeds
        if (result := latest.get((target.name, name, seed))) and result.error
    ]
    error = errors[0] if errors else None
    if name in plan.controls or not scores:
        return Cell(scores, error)
    controls = {control: _scores(plan, latest, target, control) for control in plan.controls}
    sign = -1.0 if target.metric in LOWER_IS_BETTER else 1.0
    lost = [c for c, found in controls.items() if found and not beats(scores, found, sign)]
    strongest = max(
        lost, key=lambda c: sign * float(np.mean(list(controls[c].values()))), default=None
    )
    return Cell(scores, error, loses_to=strongest, below_majority=MAJORITY in lost)


def _scores(plan: Plan, latest: Latest, target: Target, name: str) -> dict[int, float]:
    found = {}
    for seed in plan.seeds:
        result = latest.get((target.name, name, seed))
        value = None if result is None else result.metrics.get(target.metric)
        if value is not None:
            found[seed] = value
    return found


def beats(scores: Mapping[int, float], control: Mapping[int, float], sign: float) -> bool:
    """Whether the mean gain over the seeds that both have is above its standard error."""
    gains = [sign * (scores[seed] - control[seed]) for seed in scores if seed in control]
    if not gains:
        return False
    error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return float(np.mean(gains)) > error
