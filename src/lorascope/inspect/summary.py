"""How a scan of many files is shown: one line per file, and a summary by base, format, outcome and problem."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from lorascope.inspect.names import printable
from lorascope.inspect.problem import Severity
from lorascope.inspect.report import COLOURS, columns, number

__all__ = ["Summary", "line"]

PATH_WIDTH = 48
SHOWN = 3


def line(result: Mapping[str, Any], width: int = PATH_WIDTH) -> Text:
    """The line of one file: path, format, base, layers, rank, norm, and its worst problems by code.

    Args:
        result: a brief result (scan.py).
        width: columns for the path, whose end is kept where it is longer.
    """
    path = printable(result["path"])
    text = Text((path if len(path) <= width else "..." + path[3 - width :]).ljust(width))
    if result["outcome"] == "refused":
        text.append(f"  {'refused':10} ", style="red")
    else:
        norm = "" if result["norm"] is None else f", norm {number(result['norm'])}"
        text.append(
            printable(
                f"  {result['format']:10} {result['family']['name']:16} "
                f"{result['layers']} layers, rank {result['rank']}{norm} "
            )
        )
    problems = [p for p in result["problems"] if p["severity"] != Severity.NOTE.value]
    for problem in problems[:SHOWN]:
        text.append(f" {printable(problem['code'])}", style=COLOURS[Severity(problem["severity"])])
    if len(problems) > SHOWN:
        text.append(f" and {len(problems) - SHOWN} more")
    if result["outcome"] == "refused":
        text.append(f": {printable(result['error'])}")
    return text


class Summary:
    """Counts over the files of a scan, gathered as they come."""

    def __init__(self) -> None:
        self.files = 0
        self.worst: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {
            "base": Counter(),
            "format": Counter(),
            "outcome": Counter(),
            "problem": Counter(),
        }
        self.severities: dict[str, str] = {}

    def add(self, result: Mapping[str, Any]) -> None:
        """Count one brief result."""
        self.files += 1
        self.counts["outcome"][result["outcome"]] += 1
        if result["outcome"] != "refused":
            self.counts["base"][result["family"]["name"]] += 1
            self.counts["format"][result["format"]] += 1
        codes = {problem["code"]: problem["severity"] for problem in result["problems"]}
        self.counts["problem"].update(codes.keys())
        for code, severity in codes.items():
            self.severities.setdefault(code, severity)
        self.worst.update([result["problems"][0]["severity"]] if result["problems"] else [])

    def reaches(self, severity: Severity) -> bool:
        """Whether a file has a problem of this severity or a worse one."""
        order = list(Severity)
        return any(self.worst[worse.value] for worse in order[: order.index(severity) + 1])

    @property
    def refused(self) -> int:
        """Files that could not be read."""
        return self.counts["outcome"]["refused"]

    def to_json(self) -> dict[str, Any]:
        """Counts as plain data, the commonest first."""
        tables = {name: dict(table.most_common()) for name, table in self.counts.items()}
        return {"files": self.files, **tables}

    def tables(self) -> Sequence[Table]:
        """One table a question: base, format, outcome, problem."""
        made = []
        for name, counts in self.counts.items():
            table = columns(f"by {name}", "files")
            for word, count in counts.most_common():
                severity = self.severities.get(word) if name == "problem" else None
                style = COLOURS[Severity(severity)] if severity else ""
                table.add_row(Text(printable(word), style=style), Text(str(count)))
            if counts:
                made.append(table)
        return made
