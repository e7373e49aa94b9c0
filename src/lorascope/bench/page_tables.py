"""Tables of a benchmark's page: each zoo in distribution, and differences to the default.

The best of a column is bold. A dagger marks a score that does not beat some control, a double dagger one that
does not even beat the majority or mean.
"""

from typing import Any

from lorascope.bench.jobs import Run
from lorascope.bench.markdown import cell, difference, folded, number, short, table
from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.summary import Estimate, Place, Summary, estimate
from lorascope.bench.table import MAJORITY

__all__ = ["ceiling_cells", "ceiling_text", "differences", "in_distribution", "score_rows"]

LOSES, BELOW = "†", "‡"


def in_distribution(summary: Summary, zoo: str) -> list[str]:
    """The table of a zoo: all methods on its unseen groups."""
    columns = summary.columns(zoo)
    heads = ["", *(f"{name} ({summary.metric(zoo, name)})" for name in columns)]
    heads += ["weights", "stored MB", "CPU s"]
    rows = score_rows(summary, zoo, [*summary.controls, *summary.methods])
    for row, name in zip(rows, [*summary.controls, *summary.methods], strict=True):
        runs = [run for run in summary.runs_of(zoo, name) if run.error is None]
        seconds = [run.seconds for run in runs]
        weights = max((run.parameters for run in runs), default=0)
        row.append("" if METHODS[name].control else short(weights))
        row.append("" if METHODS[name].control else megabytes(runs))
        row.append(number(sum(seconds) / len(seconds), 1) if seconds else "-")
    rows.append(["*label ceiling*", *ceiling_cells(summary, zoo), "", "", ""])
    return table(heads, rows)


def megabytes(runs: list[Run]) -> str:
    """The state of one predictor in 10^6 bytes; a dash for what cannot be saved."""
    stored = max((run.stored for run in runs), default=0) / 1e6
    return number(stored, 1 if stored >= 1 else 3) if stored else number(None)


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


def differences(summary: Summary, place: Place, names: list[str]) -> list[str]:
    """The default minus every other method, paired by seed; bold where the other is better by two errors."""
    if DEFAULT not in names:
        return []
    columns = summary.columns(place.zoo)
    rows = []
    for name in [name for name in names if name != DEFAULT]:
        row = [f"*{name}*" if METHODS[name].control else name]
        for column in columns:
            gain = summary.lead(place, column, name)
            row.append(difference(gain, bold=gain.mean < -2 * gain.error))
        rows.append(row)
    title = f"{place.zoo}: {DEFAULT} minus every other method, paired by seed"
    return folded(title, table(["", *columns], rows))


def ceiling_cells(summary: Summary, zoo: str) -> list[str]:
    """The label's ceiling of each column, with its standard error where the zoo tells it."""
    return [ceiling_text(summary, zoo, column) for column in summary.columns(zoo)]


def ceiling_text(summary: Summary, zoo: str, column: str) -> str:
    """The ceiling of one column."""
    ceiling = summary.ceiling(zoo, column)
    if ceiling is None:
        return number(None)
    return cell(Estimate(ceiling, summary.ceiling_error(zoo, column), 1))
