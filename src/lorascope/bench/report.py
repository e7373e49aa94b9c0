"""The table of a benchmark for readers: in the terminal, as Markdown, and as a picture beside it.

Controls stand on top, then the models, then what the labels allow. A score that does not beat its control is
marked and named in a sentence under the table: nothing is left to the reader's eye.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from lorascope.bench.markdown import line, short
from lorascope.bench.plot import write_plot
from lorascope.bench.results import load_plan, load_results
from lorascope.bench.table import MAJORITY, Cell, Row, Table, build_table
from lorascope.errors import DataError
from lorascope.predict.target import Target

if TYPE_CHECKING:
    from rich.table import Table as RichTable

MARKDOWN = "table.md"
PICTURE = "results.png"

BELOW_MAJORITY = "‡"
LOSES = "†"
COST = ("weights", "s/run")
CEILING = "label ceiling"


def write_report(folder: Path | str) -> "RichTable":
    """Write `table.md` and `results.png` into a benchmark's folder; returns the table for the terminal.

    Raises FileError when the folder holds no benchmark, DataError when it has no result yet.
    """
    folder = Path(folder)
    table = read_table(folder)
    (folder / MARKDOWN).write_text(markdown(table), encoding="utf-8")
    write_plot(table, folder / PICTURE)
    return rich_table(table)


def read_table(folder: Path | str) -> Table:
    """The table of a benchmark's folder; raises FileError and DataError as `write_report` does."""
    folder = Path(folder)
    plan, results = load_plan(folder), load_results(folder)
    table = build_table(plan, results)
    if not any(cell.scores for row in table.rows for cell in row.cells.values()):
        raise DataError(
            f"Reporting the benchmark {folder}: its record has no score yet. Try: lorascope bench run, "
            "which goes on where it stopped."
        )
    return table


def rich_table(table: Table) -> "RichTable":
    """The table for a terminal, with its sentences as caption."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(
        box=box.SIMPLE_HEAD,
        title=escape(title(table)),
        caption="\n".join(escape(sentence) for sentence in sentences(table)),
        caption_justify="left",
        title_justify="left",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )
    shown.add_column("", no_wrap=True)
    for target in table.plan.targets:
        shown.add_column(
            f"{escape(target.name)}\n{escape(target.metric)}", justify="right", no_wrap=True
        )
    for head in COST:
        shown.add_column(f"\n{head}", justify="right", no_wrap=True)
    for row in table.rows:
        cells = [_styled(table, row, target) for target in table.plan.targets]
        last_control = row.control and row.name == table.plan.controls[-1]
        shown.add_row(row.name, *cells, *_cost(row), end_section=last_control)
    if ceiling := _ceiling(table):
        shown.add_section()
        shown.add_row(CEILING, *ceiling, "", "")
    return shown


def markdown(table: Table) -> str:
    """The table as Markdown, with its sentences under it."""
    targets = table.plan.targets
    heads = [
        "",
        *(f"{target.name} ({target.metric})" for target in targets),
        *COST,
    ]
    lines = [f"# {title(table)}", "", line(heads), line([":--", *["--:"] * (len(heads) - 1)])]
    for row in table.rows:
        name = f"*{row.name}*" if row.control else row.name
        cells = [
            f"**{text(row.cells[t.name])}**"
            if row.name == table.best(t.name) and not row.control
            else text(row.cells[t.name])
            for t in targets
        ]
        lines.append(line([name, *cells, *_cost(row)]))
    if ceiling := _ceiling(table):
        lines.append(line([f"*{CEILING}*", *ceiling, "", ""]))
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences(table)), ""])


def title(table: Table) -> str:
    """What was compared, on how many LoRAs, with how many seeds."""
    plan = table.plan
    many = "seed" if len(plan.seeds) == 1 else "seeds (mean ± deviation)"
    return f"{plan.loras} LoRAs, {len(plan.seeds)} {many}, tested on unseen groups"


def sentences(table: Table) -> list[str]:
    """What the marks mean, and in words what does not beat its control or has no score."""
    found = [
        "Controls stand first; the best model of each target is bold. A model beats a control when its "
        "gain, paired by seed, is above its standard error."
    ]
    for target in table.plan.targets:
        below = [row.name for row in table.models() if row.cells[target.name].below_majority]
        if below:
            found.append(
                f"{BELOW_MAJORITY} {target.name}: {', '.join(below)} "
                f"{_do(below)} not beat the {MAJORITY if target.kind != 'regression' else 'mean'}."
            )
        losing: dict[str, list[str]] = {}
        for row in table.models():
            cell = row.cells[target.name]
            if cell.loses_to and not cell.below_majority:
                losing.setdefault(cell.loses_to, []).append(row.name)
        for control, names in losing.items():
            found.append(
                f"{LOSES} {target.name}: {', '.join(names)} {_do(names)} not beat the control "
                f"'{control}'."
            )
        for row in table.rows:
            if error := row.cells[target.name].error:
                found.append(f"{target.name}: {row.name} has a run without a score. {error}")
    return found


def text(cell: Cell) -> str:
    """A cell in words: mean, spread and mark."""
    if not cell.scores:
        return "-"
    mark = BELOW_MAJORITY if cell.below_majority else LOSES if cell.loses_to else ""
    spread = "" if math.isnan(cell.spread) else f" ±{f'{cell.spread:.3f}'.removeprefix('0')}"
    return f"{cell.mean:.3f}{spread}{mark}"


def _styled(table: Table, row: Row, target: Target) -> str:
    cell = row.cells[target.name]
    padded = text(cell) + ("" if cell.loses_to else " ")  # a place for the mark of others
    if row.control:
        return padded
    if row.name == table.best(target.name):
        return f"[bold green]{padded}[/]"
    return f"[dim]{padded}[/]" if cell.loses_to else padded


def _cost(row: Row) -> list[str]:
    parameters = "" if row.control else short(row.parameters)
    return [parameters, "-" if math.isnan(row.seconds) else f"{row.seconds:.1f}"]


def _ceiling(table: Table) -> list[str]:
    values = [table.ceiling(target) for target in table.plan.targets]
    if all(value is None for value in values):
        return []
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _do(names: list[str]) -> str:
    return "does" if len(names) == 1 else "do"
