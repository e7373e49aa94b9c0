"""The benchmark at a glance: one row for each task, as a table and as a picture.

    best control | best of the paper's models and W2T | best of all others | the default | the label's ceiling

The best of others are chosen after the fact, on the scores that are shown: that favours them.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lorascope.bench.markdown import cell, difference, number, table
from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.summary import Estimate, Summary, estimate, paired

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Task", "draw_glance", "glance", "tasks_of"]

NOBODY = Estimate(math.nan, math.nan, 0)


@dataclass(frozen=True)
class Best:
    """The best of some methods on a task."""

    name: str | None
    found: Estimate

    def __str__(self) -> str:
        return f"{self.name} {cell(self.found)}" if self.name else "-"


@dataclass(frozen=True)
class Task:
    """What each side scores on one column of a zoo."""

    zoo: str
    column: str
    metric: str
    control: Best
    paper: Best
    other: Best
    ours: Estimate
    lead: Estimate  # of the default over the best other, paired by seed, more being better
    ceiling: float | None

    @property
    def closed(self) -> float | None:
        """The share of the gap between the paper's best and the ceiling that the default closes.

        None where nobody knows the ceiling or a score, NaN where the gap is within two standard errors.
        """
        rival, top = self.paper.found, self.ceiling
        if top is None or not rival.known or not self.ours.known:
            return None
        error = 0.0 if math.isnan(rival.error) else rival.error
        gap = abs(top - rival.mean)
        if gap <= max(2 * error, 1e-6):
            return math.nan
        return (self.ours.mean - rival.mean) / (top - rival.mean)

    @property
    def beaten(self) -> bool:
        """Whether the best other is better by more than two standard errors of the difference."""
        return self.lead.mean < -2 * self.lead.error


def tasks_of(summary: Summary) -> list[Task]:
    """A task for each column of each zoo."""
    return [_task(summary, z, c) for z in summary.asked.suite.zoos for c in summary.columns(z)]


def _task(summary: Summary, zoo: str, column: str) -> Task:
    def best(names: list[str]) -> Best:
        name = summary.best(zoo, column, names)
        scores = summary.scores(zoo, name, column) if name else {}
        return Best(name, estimate(scores))

    others = [name for name in summary.methods if name != DEFAULT]
    ours, other, sign = (
        summary.scores(zoo, DEFAULT, column),
        best(others),
        summary.sign(zoo, column),
    )
    theirs = summary.scores(zoo, other.name, column) if other.name else {}
    lead = paired(
        {seed: sign * score for seed, score in ours.items()},
        {seed: sign * score for seed, score in theirs.items()},
    )
    return Task(
        zoo,
        column,
        summary.metric(zoo, column),
        best(list(summary.controls)),
        best([name for name in summary.methods if METHODS[name].paper]),
        other,
        estimate(ours),
        lead,
        summary.ceiling(zoo, column),
    )


def glance(summary: Summary) -> list[str]:
    """The table; nothing where the default takes no part."""
    if DEFAULT not in summary.methods:
        return []
    heads = ["", "best control", "the paper's and W2T's best", "best other", DEFAULT, "ceiling"]
    heads += ["of the gap", f"{DEFAULT} - best other"]
    return table(heads, [_row(task) for task in tasks_of(summary)])


def _row(task: Task) -> list[str]:
    leads = task.ours.known and not task.lead.mean < 0
    share = task.closed
    return [
        f"{task.zoo}: {task.column} ({task.metric})",
        str(task.control),
        str(task.paper),
        str(task.other),
        cell(task.ours, bold=leads),
        number(task.ceiling),
        "-" if share is None else "no gap" if math.isnan(share) else f"{100 * share:.0f} %",
        difference(task.lead, bold=task.beaten),
    ]


MARKS = (  # of the picture: attribute of a task, label, marker and colour
    ("control", "best control", "|", "#8a8a8a"),
    ("paper", "the paper's models and W2T, the best", "o", "#d1495b"),
    ("other", "best of all others", "D", "#e6a117"),
)
LOWEST = -0.05


def draw_glance(panel: "Axes", summary: Summary) -> None:
    """The table as a picture: a line for each task, a mark for each side."""
    tasks = tasks_of(summary)
    places = range(len(tasks))
    for name, label, marker, colour in MARKS:
        x = [getattr(task, name).found.mean for task in tasks]
        panel.plot(x, places, marker, color=colour, label=label, ms=7 if marker == "|" else 4.5)
    ours, errors = ([getattr(task.ours, of) for task in tasks] for of in ("mean", "error"))
    panel.errorbar(ours, places, xerr=errors, fmt="o", color="#1b6ca8", label=DEFAULT, ms=6)
    tops = [math.nan if task.ceiling is None else task.ceiling for task in tasks]
    panel.plot(tops, places, "|", color="black", label="the label's ceiling", ms=11, mew=1.5)
    panel.set_yticks(places, [f"{task.zoo}: {task.column} ({task.metric})" for task in tasks])
    for place, (before, after) in enumerate(pairwise(tasks)):
        if before.zoo != after.zoo:
            panel.axhline(place + 0.5, color="#cccccc", linewidth=0.8)
    panel.invert_yaxis()
    panel.set_xlim(LOWEST, 1.02)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", color="#eeeeee")
    panel.set_axisbelow(True)
