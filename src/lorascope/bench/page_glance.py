"""The benchmark at a glance: one row for each task, as a table and as a picture.

    best control | best of the paper's models and W2T | best of all others | the default | the label's ceiling

The best of others are chosen after the fact, on the scores that are shown: that favours them. Zoos of other
adapters, which only the controls and the leaders are trained on, have a table of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lorascope.bench.markdown import cell, difference, table
from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.page_tables import ceiling_text
from lorascope.bench.summary import Estimate, Place, Summary, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Task", "draw_glance", "glance", "homes", "tasks_of", "verdict"]

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
    """What each side scores on one column of a zoo.

    `leads` is how much better the default is than every other method, controls too, paired by seed; `top` the
    best score of all, and `above` whether it lies above the label's ceiling.
    """

    place: Place
    column: str
    metric: str
    control: Best
    paper: Best
    other: Best
    ours: Estimate
    leads: Mapping[str, Estimate]
    ceiling: float | None
    ceiling_cell: str
    above: bool = False

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.place.zoo}: {self.column} ({self.metric})"

    @property
    def lead(self) -> Estimate:
        """Over the best other."""
        return self.leads.get(self.other.name or "", NOBODY)

    @property
    def closed(self) -> float | None:
        """The share of the gap between the paper's best and the ceiling that the default closes.

        None where nobody knows the ceiling or a score, NaN where the gap is within two standard errors. Where
        any method scores above the ceiling it is none, and a share of it would mean nothing: None too.
        """
        rival, top = self.paper.found, self.ceiling
        if self.above or top is None or not rival.known or not self.ours.known:
            return None
        error = 0.0 if math.isnan(rival.error) else rival.error
        gap = abs(top - rival.mean)
        if gap <= max(2 * error, 1e-6):
            return math.nan
        return (self.ours.mean - rival.mean) / (top - rival.mean)

    @property
    def beaten_by(self) -> tuple[str, ...]:
        """All methods that are better by more than two standard errors of the difference."""
        return tuple(name for name, lead in self.leads.items() if lead.mean < -2 * lead.error)


def homes(summary: Summary, *, kinds: bool = False) -> list[Place]:
    """The unseen groups of each zoo with a table of its own, or of each zoo of other adapters."""
    if kinds:
        return [Place(zoo, stage="kinds") for zoo in summary.asked.suite.kinds]
    return [Place(zoo) for zoo in summary.asked.suite.zoos]


def tasks_of(summary: Summary, *, kinds: bool = False) -> list[Task]:
    """A task for each column of each zoo."""
    places = homes(summary, kinds=kinds)
    return [_task(summary, place, c) for place in places for c in summary.columns(place.zoo)]


def _task(summary: Summary, place: Place, column: str) -> Task:
    zoo, sign = place.zoo, summary.sign(place.zoo, column)
    found = {
        name: estimate(summary.scores(zoo, name, column, **place.where))
        for name in summary.asked.suite.methods
    }

    def best(names: tuple[str, ...]) -> Best:
        name = summary.best(zoo, column, names, **place.where)
        return Best(name, found[name] if name else NOBODY)

    others = tuple(name for name in summary.methods if name != DEFAULT)
    leads = {
        name: summary.lead(place, column, name)
        for name in summary.asked.suite.methods
        if name != DEFAULT and found[name].known
    }
    ceiling = summary.ceiling(zoo, column)
    above = ceiling is not None and any(sign * (of.mean - ceiling) > 0 for of in found.values())
    return Task(
        place,
        column,
        summary.metric(zoo, column),
        best(summary.controls),
        best(tuple(name for name in summary.methods if METHODS[name].paper)),
        best(others),
        found.get(DEFAULT, NOBODY),
        leads,
        ceiling,
        ceiling_text(summary, zoo, column),
        above,
    )


def glance(summary: Summary, *, kinds: bool = False) -> list[str]:
    """The table; nothing where the default takes no part, or no zoo."""
    if DEFAULT not in summary.methods or not homes(summary, kinds=kinds):
        return []
    heads = ["", "best control", "the paper's and W2T's best", "best other", DEFAULT, "ceiling"]
    heads += ["of the gap", f"{DEFAULT} - best other"]
    return table(heads, [_row(task) for task in tasks_of(summary, kinds=kinds)])


def verdict(tasks: list[Task]) -> str:
    """In one sentence how often the default is beaten, and by whom."""
    lost = [task for task in tasks if task.beaten_by]
    count = str(len(lost)) if lost else "none"
    named = "; ".join(f"{task.title}, by {', '.join(task.beaten_by)}" for task in lost)
    return (
        f"`{DEFAULT}` is beaten by more than two standard errors on {count} of the {len(tasks)} tasks of this "
        f"table, whichever other method is taken{f' ({named})' if named else ''}."
    )


def _row(task: Task) -> list[str]:
    leads = task.ours.known and not task.lead.mean < 0
    share = task.closed
    gap = "-" if share is None else "no gap" if math.isnan(share) else f"{100 * share:.0f} %"
    return [
        task.title,
        str(task.control),
        str(task.paper),
        str(task.other),
        cell(task.ours, bold=leads),
        task.ceiling_cell,
        "above the ceiling" if task.above else gap,
        difference(task.lead, bold=bool(task.beaten_by)),
    ]


MARKS = (  # of the picture: attribute of a task, label, marker and colour
    ("control", "best control", "|", "#8a8a8a"),
    ("paper", "the paper's models and W2T, the best", "o", "#d1495b"),
    ("other", "best of all others", "D", "#e6a117"),
)
LOWEST = -0.05


def draw_glance(panel: "Axes", tasks: list[Task]) -> None:
    """The table as a picture: a line for each task, a mark for each side."""
    places = range(len(tasks))
    for name, label, marker, colour in MARKS:
        x = [getattr(task, name).found.mean for task in tasks]
        panel.plot(x, places, marker, color=colour, label=label, ms=7 if marker == "|" else 4.5)
    ours, errors = ([getattr(task.ours, of) for task in tasks] for of in ("mean", "error"))
    panel.errorbar(ours, places, xerr=errors, fmt="o", color="#1b6ca8", label=DEFAULT, ms=6)
    tops = [math.nan if task.ceiling is None else task.ceiling for task in tasks]
    panel.plot(tops, places, "|", color="black", label="the label's ceiling", ms=11, mew=1.5)
    panel.set_yticks(places, [task.title for task in tasks])
    for place, (before, after) in enumerate(pairwise(tasks)):
        if before.place.zoo != after.place.zoo:
            panel.axhline(place + 0.5, color="#cccccc", linewidth=0.8)
    panel.invert_yaxis()
    panel.set_xlim(LOWEST, 1.02)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", color="#eeeeee")
    panel.set_axisbelow(True)
