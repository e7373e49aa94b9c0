"""What a command prints: answers on stdout, progress and complaints on stderr.

With --json, stdout holds one JSON document and nothing else. Strings that may come from a file are printed
through `printable` or a rich `Text`, never as markup.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lorascope.errors import FileError
from lorascope.inspect.names import printable

__all__ = [
    "check_picture",
    "complain",
    "console",
    "describe",
    "note",
    "plain_table",
    "print_json",
    "progress_bar",
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


def without_nan(data: Any) -> Any:
    """The data with None for every number that is not finite, which JSON cannot say."""
    if isinstance(data, Mapping):
        return {key: without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [without_nan(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def complain(error: BaseException) -> None:
    """One message on stderr."""
    sys.stderr.write(f"Error: {describe(error)}\n")


def note(sentence: str) -> None:
    """A fact that the user should know, on stderr."""
    sys.stderr.write(f"Note: {printable(sentence)}\n")


def describe(error: BaseException) -> str:
    """The message of an error, safe to print, on one line."""
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename is not None else ""
        return printable(f"{error.strerror}{place}")
    return printable(" ".join(str(error).split()) or type(error).__name__)


def plain_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table without lines; the first column stands to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def progress_bar(*, show: bool = True) -> Progress:
    """A bar on stderr that leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not show or not sys.stderr.isatty(),
    )
