"""What a command prints: answers on stdout, progress and complaints on stderr.

With --json, stdout holds one JSON document and nothing else. Strings that may come from a file are printed
through `printable` or a rich `Text`, never as markup.
"""

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lorascope.errors import FileError, sentence
from lorascope.inspect.names import printable
from lorascope.io.results import without_nan

__all__ = [
    "check_picture",
    "complain",
    "console",
    "consoles",
    "describe",
    "note",
    "plain_table",
    "print_json",
    "progress_bar",
    "stream_json",
]

PIPE_WIDTH = 140  # columns where the output is no terminal: tables stay readable in a file


def console(*, stderr: bool = False, markup: bool = False) -> Console:
    """A console on stdout or stderr as it is at the time of the call.

    Args:
        markup: obey rich markup, for tables that escape what comes from files themselves.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=markup, highlight=False, emoji=False)


def check_picture(place: Path, *, makes_folder: bool = False) -> None:
    """Raise FileError where no picture can be written: before the work that it would show, not after.

    Args:
        makes_folder: whoever draws makes the folder too.
    """
    doing = f"Drawing to {str(place)!r}"
    if place.suffix.lower() != ".png":
        raise FileError(
            f"{doing}: found the ending {place.suffix!r}, and pictures are PNG. "
            f"Try: {place.with_suffix('.png').name if place.name else 'a name that ends in .png'}."
        )
    if place.is_dir():
        raise FileError(f"{doing}: it is a folder. Expected the name of a file. Try: another name.")
    if not makes_folder and not place.parent.is_dir():
        raise FileError(f"{doing}: there is no folder {str(place.parent)!r}. Try: make it first.")


def print_json(document: Any) -> None:
    """The one JSON document of a command; numbers that are not finite are null."""
    text = json.dumps(without_nan(document), indent=2, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text + "\n")


def stream_json(
    head: Mapping[str, Any],
    name: str,
    items: Iterable[Any],
    tail: Callable[[], Mapping[str, Any]],
) -> None:
    """What `print_json` prints of {**head, name: [*items], **tail()}, each item as it comes: none is kept.

    Args:
        head: the first keys, at least one.
        tail: the last keys, at least one; asked for after the items.
    """
    write = sys.stdout.write
    write(f"{{\n{inner(head)},\n  {json.dumps(name)}: [")
    some = False
    for item in items:
        text = json.dumps(without_nan(item), indent=2, ensure_ascii=True, allow_nan=False)
        write(("," if some else "") + "\n" + textwrap.indent(text, "    "))
        some = True
    write(("\n  ]" if some else "]") + f",\n{inner(tail())}\n}}\n")


def inner(document: Mapping[str, Any]) -> str:
    """The lines of a JSON object without its braces."""
    text = json.dumps(without_nan(document), indent=2, ensure_ascii=True, allow_nan=False)
    return text.removeprefix("{\n").removesuffix("\n}")


def complain(error: BaseException) -> None:
    """One message on stderr."""
    sys.stderr.write(f"Error: {describe(error)}\n")


def note(sentence: str) -> None:
    """A fact that the user should know, on stderr."""
    sys.stderr.write(f"Note: {printable(sentence)}\n")


def describe(error: BaseException) -> str:
    """The message of an error, safe to print, on one line."""
    return printable(sentence(error))


def plain_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table without lines; the first column stands to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


class Rate(ProgressColumn):
    """How many were done in a second of late; nothing before the first."""

    def render(self, task: Task) -> Text:
        """The column of one bar."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}/s")


def progress_bar(*, show: bool = True, rate: bool = False) -> Progress:
    """A bar on stderr that leaves nothing behind.

    Args:
        rate: show how many are done a second, and what the task's field `told` says.
    """
    more = (Rate(), TextColumn("{task.fields[told]}")) if rate else ()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *more,
        console=console(stderr=True),
        transient=True,
        # lines on a terminal go above the bar; what goes into a file must not pass by way of stderr
        redirect_stdout=sys.stdout.isatty(),
        disable=not show or not sys.stderr.isatty(),
    )


def consoles(bar: Progress) -> tuple[Console, Console]:
    """Consoles on stdout and stderr whose lines stand above the bar where they share its terminal."""
    if bar.disable:
        return console(), console(stderr=True)
    return bar.console if sys.stdout.isatty() else console(), bar.console
