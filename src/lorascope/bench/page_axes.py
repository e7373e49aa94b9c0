"""The axes of a benchmark's page: other ranks, other bases, other writings, fewer LoRAs, other adapters.

Their tables hold the controls and the leaders of the zoo that they were trained on.
"""

import math

from lorascope.bench.jobs import OWN_BASE
from lorascope.bench.markdown import cell, folded, table
from lorascope.bench.methods import METHODS
from lorascope.bench.page_tables import ceiling_cells, differences, score_rows
from lorascope.bench.summary import Place, Summary, estimate, paired

__all__ = ["axes"]

RANK, SECOND, CONTROL = "-rank-", "-second", "-control"


def axes(summary: Summary) -> list[str]:
    """The sections of all axes that the suite has."""
    lines: list[str] = []
    for zoo in summary.asked.suite.zoos:
        shifts = summary.asked.suite.shifts.get(zoo, ())
        if ranks := [name for name in shifts if RANK in name]:
            lines += _ranks(summary, zoo, ranks)
    lines += _section(summary, SECOND, "The second version of the base", SECOND_TEXT, kept=True)
    lines += _section(summary, CONTROL, "A base of another seed", CONTROL_TEXT, kept=False)
    lines += _section(summary, "-dora", "Trained on LoRA, tested on DoRA", DORA_TEXT, kept=True)
    return [*lines, *_alterations(summary), *_sizes(summary), *_kinds(summary)]


SECOND_TEXT = (
    "Trained on LoRAs of the first base, tested on LoRAs of one that was trained on from it. A score is "
    "its value: the change that is predicted plus the value of the base that was learned from. In brackets the "
    "share of the skill in distribution that is kept."
)
CHANGE_TEXT = "The changes themselves, each against its own base's value:"
CONTROL_TEXT = (
    "The same architecture trained from another seed shares no weights: directions mean nothing there. "
    "What is left of a score comes from sizes."
)
DORA_TEXT = (
    "The magnitudes of DoRA are part of the update; methods that read the factors only miss them."
)


def _name(method: str) -> str:
    return f"*{method}*" if METHODS[method].control else method


def _ranks(summary: Summary, zoo: str, ranks: list[str]) -> list[str]:
    """A table for each column: methods by rank of the test LoRAs."""
    lines = [
        f"### Ranks that were not trained on: {zoo}",
        "",
        "Trained on the ranks of the zoo (test: its own unseen groups), tested on other people at each rank.",
        "",
    ]
    heads = ["", f"test of {zoo}", *(f"rank {name.split(RANK)[1]}" for name in ranks)]
    for column in summary.columns(zoo):
        rows = []
        for method in summary.compared(zoo):
            row = [_name(method)]
            for on in ("test", *ranks):
                found = estimate(summary.scores(zoo, method, column, on=on))
                best = method == summary.best(zoo, column, summary.leaders(zoo), on=on)
                row.append(cell(found, bold=best))
            rows.append(row)
        title = f"**{column}** ({summary.metric(zoo, column)})"
        lines += [title, "", *table(heads, rows)]
    return lines + _refusals(summary, zoo, ranks)


def _section(summary: Summary, ending: str, title: str, text: str, *, kept: bool) -> list[str]:
    """A section with a table for each zoo that is tested on one whose name has that ending."""
    lines: list[str] = []
    for zoo in summary.asked.suite.zoos:
        for on in summary.asked.suite.shifts.get(zoo, ()):
            if on.endswith(ending):
                pair = f"**{zoo} -> {on}**{_tested(summary, zoo, on)}"
                lines += [pair, "", *_shift(summary, zoo, on, kept=kept)]
    return [f"### {title}", "", text, "", *lines] if lines else []


def _tested(summary: Summary, zoo: str, on: str) -> str:
    """How many LoRAs of another zoo are tested."""
    found = summary.tested(zoo, on)
    if found is None:
        return ""
    count = str(found[0]) if found[0] == found[1] else f"{found[0]} to {found[1]}"
    return f" ({count} of {summary.asked.zoos[on].loras} LoRAs)"


def _shift(summary: Summary, zoo: str, on: str, *, kept: bool) -> list[str]:
    """Values of another base, then the changes where they are another question."""
    columns = list(summary.columns(zoo))
    lines = _scores_on(summary, zoo, on, columns, kept=kept)
    own = on + OWN_BASE
    apart = [name for name in columns if _differ(summary, zoo, name, on, own)]
    if apart:
        lines += [CHANGE_TEXT, "", *_scores_on(summary, zoo, own, apart, kept=kept)]
    return [*lines, *_refusals(summary, zoo, [on])]


def _differ(summary: Summary, zoo: str, column: str, on: str, own: str) -> bool:
    return any(
        summary.scores(zoo, method, column, on=on) != summary.scores(zoo, method, column, on=own)
        for method in summary.compared(zoo)
    )


def _scores_on(summary: Summary, zoo: str, on: str, columns: list[str], *, kept: bool) -> list[str]:
    rows = []
    for method in summary.compared(zoo):
        row = [_name(method)]
        for column in columns:
            text = cell(estimate(summary.scores(zoo, method, column, on=on)))
            share = summary.kept(zoo, method, column, on)
            if kept and not math.isnan(share):
                text += f" ({100 * share:.0f} %)"
            row.append(text)
        rows.append(row)
    heads = ["", *(f"{name} ({summary.metric(zoo, name)})" for name in columns)]
    return table(heads, rows)


def _refusals(summary: Summary, zoo: str, sets: list[str]) -> list[str]:
    """What the methods of the suite say of sets that they cannot read."""
    said: dict[str, list[str]] = {}
    for on in sets:
        for method in summary.asked.suite.methods:
            if error := summary.error(zoo, method, on):
                said.setdefault(f"{on}: {error}", []).append(method)
    lines = [f"- {', '.join(methods)} on {error}" for error, methods in said.items()]
    return [*lines, ""] if lines else []


def _alterations(summary: Summary) -> list[str]:
    """The largest changes of a column's score and of a prediction, by method and writing."""
    names = summary.asked.suite.alterations
    if not names:
        return []
    lines = ["### The same LoRAs written otherwise", "", ALTERED, ""]
    for zoo in summary.asked.suite.zoos:
        rows = []
        for method in [*summary.controls, *summary.methods]:
            found = [
                f"{_largest_change(summary, zoo, method, name)} / "
                f"{_moved(summary, zoo, method, name)}"
                for name in names
            ]
            rows.append([_name(method), *found])
        lines += [f"**{zoo}**", "", *table(["", *names], rows)]
    return lines


ALTERED = (
    "The test LoRAs after a random change of gauge (condition number up to 10) and after rounding their "
    "factors. First the largest change of a column's score against the LoRAs as they are, and the column; "
    "bold where it is more than the standard error of that score. After the stroke the largest change of a "
    "single prediction: of a value in deviations of its label, of classes in probability."
)


def _largest_change(summary: Summary, zoo: str, method: str, on: str) -> str:
    found: dict[str, float] = {}
    for column in summary.columns(zoo):
        own = summary.scores(zoo, method, column)
        moved = paired(summary.scores(zoo, method, column, on=on), own)
        if moved.known:
            found[column] = moved.mean
    if not found:
        return "-"
    column = max(found, key=lambda name: abs(found[name]))
    change = found[column]
    if abs(change) < 5e-5:
        return f"{change:+.0e}" if change else "0"
    error = estimate(summary.scores(zoo, method, column)).error
    text = f"{change:+.4f} {column}"
    return f"**{text}**" if abs(change) > error else text


def _moved(summary: Summary, zoo: str, method: str, on: str) -> str:
    """The largest change of any prediction, over targets and seeds."""
    runs = summary.runs_of(zoo, method)
    found = [change for run in runs for change in run.changes.get(on, {}).values()]
    return "-" if not found else f"{max(found):.0e}" if max(found) else "0"


def _sizes(summary: Summary) -> list[str]:
    """Scores by the number of LoRAs that were learned from."""
    if not summary.asked.suite.sizes:
        return []
    lines = [
        "### How many LoRAs are needed",
        "",
        "LoRAs that were learned from, an eighth of them for validation; the test rows are the same. The best "
        "control of each column on all LoRAs, and the leaders.",
        "",
    ]
    for zoo in summary.asked.suite.zoos:
        counts = [
            n
            for n in summary.asked.suite.sizes
            if any(summary.runs_of(zoo, m, stage="sizes", loras=n) for m in summary.compared(zoo))
        ]
        rows = []
        for column in summary.columns(zoo):
            best = summary.best(zoo, column, summary.controls)
            for method in [*([best] if best else []), *summary.leaders(zoo)]:
                row = [f"{column}, {_name(method)}"]
                for n in counts:
                    scores = summary.scores(zoo, method, column, stage="sizes", loras=n)
                    row.append(cell(estimate(scores)))
                rows.append([*row, cell(estimate(summary.scores(zoo, method, column)))])
        lines += folded(f"{zoo}: scores by LoRAs", table(["", *map(str, counts), "all"], rows))
    return lines


def _kinds(summary: Summary) -> list[str]:
    """Zoos of other adapters, trained and tested on their own."""
    lines: list[str] = []
    for zoo, parent in summary.asked.suite.kinds.items():
        facts = summary.asked.zoos[zoo]
        heads = ["", *(f"{name} ({summary.metric(zoo, name)})" for name in summary.columns(zoo))]
        names = summary.compared(zoo)
        rows = score_rows(summary, zoo, names, stage="kinds")
        rows.append(["*label ceiling*", *ceiling_cells(summary, zoo)])
        lines += [
            f"**{zoo}** ({facts.loras} LoRAs, dials chosen on {parent})",
            "",
            *table(heads, rows),
            *differences(summary, Place(zoo, stage="kinds"), names),
        ]
        for method in names:
            if error := summary.error(zoo, method, "test", stage="kinds"):
                lines += [f"- {method}: {error}", ""]
    if not lines:
        return []
    return ["### Other targets, mixed ranks, convolutions, DoRA", "", KINDS_TEXT, "", *lines]


KINDS_TEXT = "Trained and tested on zoos of their own, small ones; split by group as all others."
