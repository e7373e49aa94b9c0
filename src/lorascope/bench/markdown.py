"""Cells and tables of a benchmark's page, as Markdown."""

import math
from collections.abc import Iterable, Sequence

from lorascope.bench.summary import Estimate

__all__ = ["cell", "difference", "folded", "line", "number", "short", "table"]

NOTHING = "-"


def number(value: float | None, digits: int = 3) -> str:
    """A number of fixed digits; a dash where there is none."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def cell(found: Estimate, *, bold: bool = False, mark: str = "") -> str:
    """A mean and its standard error."""
    if not found.known:
        return NOTHING
    text = number(found.mean) + _error(found.error)
    return f"**{text}**{mark}" if bold else text + mark


def difference(found: Estimate, *, bold: bool = False) -> str:
    """A difference with its sign and its standard error."""
    if not found.known:
        return NOTHING
    text = f"{found.mean:+.3f}" + _error(found.error)
    return f"**{text}**" if bold else text


def _error(error: float) -> str:
    return "" if math.isnan(error) else f" ±{f'{error:.3f}'.removeprefix('0')}"


def short(count: float) -> str:
    """A count in at most five letters."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, first column to the left, an empty line behind."""
    lines = [line(heads), line([":--", *["--:"] * (len(heads) - 1)])]
    return [*lines, *(line(row) for row in rows), ""]


def line(cells: Sequence[str]) -> str:
    """A row of a table; what a cell holds cannot end it."""
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in cells) + " |"


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that a reader opens by their title."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "</details>", ""]
