"""Tables of a benchmark's page: each zoo in distribution, and differences to the default.

The best of a column is bold. A dagger marks a score that does not beat some control, a double dagger one that
does not even beat the majority or mean.
"""

from typing import Any

from lorascope.bench.markdown import cell, difference, folded, number, short, table
from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.summary import Estimate, Summary, estimate, paired
from lorascope.bench.table import MAJORITY

__all__ = ["differences", "in_distribution", "score_rows"]

LOSES, BELOW = "†", "‡"


def in_distribution(summary: Summary, zoo: str) -> list[str]:
    """The table of a zoo: all methods on its unseen groups."""
    columns = summary.columns(zoo)
    heads = ["", *(f"{name} ({summary.metric(zoo, name)})" for name in columns), "weights", "CPU s"]
    rows = score_rows(summary, zoo, [*summary.controls, *summary.methods])
    for row, name in zip(rows, [*summary.controls, *summary.methods], strict=True):
        runs = [run for run in summary.runs_of(zoo, name) if run.error is None]
        seconds = [run.seconds for run in runs]
        weights = max((run.parameters for run in runs), default=0)
        row.append("" if METHODS[name].control else short(weights))
        row.append(number(sum(seconds) / len(seconds), 1) if seconds else "-")
    ceilings = [number(summary.ceiling(zoo, name)) for name in columns]
    rows.append(["*label ceiling*", *ceilings, "", ""])
    return table(heads, rows)


def score_rows(summary: Summary, zoo: str, names: list[str], **where: Any) -> list[list[str]]:
    """A row of scores for each method, on a set of test LoRAs."""
    rows = []
    for name in names:
        row = [f"*{name}*" if METHODS[name].control else name]
        for column in summary.columns(zoo):
            found = estimate(summary.scores(zoo, name, column, **where))
            best = name == summary.best(zoo, column, **where)
            row.append(cell(found, bold=best, mark=_mark(summary, zoo, name, column, **where)))
        rows.append(row)
    return rows


def _mark(summary: Summary, zoo: str, name: str, column: str, **where: Any) -> str:
    if METHODS[name].control:
        return ""
    lost = summary.lost_to(zoo, name, column, **where)
    return BELOW if MAJORITY in lost else LOSES if lost else ""


def differences(summary: Summary, zoo: str) -> list[str]:
    """The default minus every other method, paired by seed; bold where the other is better by two errors."""
    if DEFAULT not in summary.methods:
        return []
    columns = summary.columns(zoo)
    rows = []
    for name in [*summary.controls, *summary.methods]:
        if name == DEFAULT:
            continue
        row = [f"*{name}*" if METHODS[name].control else name]
        for column in columns:
            gain = _gain(summary, zoo, name, column)
            row.append(difference(gain, bold=gain.mean < -2 * gain.error))
        rows.append(row)
    return folded(
        f"{zoo}: {DEFAULT} minus every other method, paired by seed", table(["", *columns], rows)
    )


def _gain(summary: Summary, zoo: str, name: str, column: str) -> Estimate:
    """How much better the default is than another method, more being better."""
    sign = summary.sign(zoo, column)
    ours, theirs = (
        {seed: sign * x for seed, x in summary.scores(zoo, who, column).items()}
        for who in (DEFAULT, name)
    )
    return paired(ours, theirs)
