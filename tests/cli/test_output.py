import io
import json
import math
import sys

import pytest
from rich.progress import Progress

from lorascope.cli.output import (
    Rate,
    check_picture,
    complain,
    console,
    describe,
    note,
    plain_table,
    print_json,
    progress_bar,
    stream_json,
)
from lorascope.errors import DataError, FileError


def test_json_is_plain_and_ends_its_line(capsys):
    print_json({"a": [1, "ü\x1b"]})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"a": [1, "ü\x1b"]}
    assert printed.out.isascii()
    assert "\x1b" not in printed.out
    assert printed.out.endswith("}\n")
    assert printed.err == ""


def test_numbers_that_json_cannot_say_are_null(capsys):
    print_json({"a": math.nan, "b": [1.5, (math.inf,)], "c": True})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, [None]], "c": True}


@pytest.mark.parametrize("items", [[], [1], [{"b": [], "c": "x\ny"}, math.nan, {}]])
def test_a_document_that_streams_is_the_one_that_is_printed_whole(capsys, items):
    head, tail = {"schema": "x/1", "list": [1, {"a": 2}]}, {"sum": {"files": math.inf}, "end": []}
    print_json({**head, "files": items, **tail})
    whole = capsys.readouterr().out
    stream_json(head, "files", iter(items), lambda: tail)
    assert capsys.readouterr().out == whole


def test_a_document_streams_item_by_item(capsys):
    def items():
        for item in ("first", "second"):
            yield item
            assert f'"{item}"' in capsys.readouterr().out

    stream_json({"schema": "x/1"}, "files", items(), lambda: {"sum": 2})


def test_complaints_and_notes_go_to_stderr(capsys):
    complain(DataError("first\nsecond"))
    assert capsys.readouterr() == ("", "Error: first second\n")
    note("\x1b[31mred")
    assert capsys.readouterr() == ("", "Note: \\x1b[31mred\n")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("a.jpg", r"found the ending '.jpg'.*Try: a\.png"),
        ("a", r"found the ending ''.*Try: a\.png"),
        ("folder.png", "is a folder"),
        ("not-there/a.png", "no folder.*not-there"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused(tmp_path, place, said):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileError, match=said):
        check_picture(tmp_path / place)
    check_picture(tmp_path / "a.PNG")
    check_picture(tmp_path / "not-there/a.png", makes_folder=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "a\x1bb"),
            "No such file or directory: a\\x1bb",
        ),
        (OSError("plain"), "plain"),
        (DataError(""), "DataError"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_errors_are_described_on_one_safe_line(error, said):
    assert describe(error) == said


def test_markup_in_a_table_or_line_is_not_obeyed(capsys):
    out = console()
    out.print("[bold]x[/nope]")
    out.print(plain_table(["name", "value"], [["[red]a[/wrong]", 1.5], ["\x07", None]]))
    text = capsys.readouterr().out
    assert "[bold]x[/nope]" in text
    assert "[red]a[/wrong]" in text
    assert "\\x07" in text


def test_a_file_gets_no_progress(capsys):
    with progress_bar() as bar:
        bar.advance(bar.add_task("x", total=2))
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_bar_on_a_terminal_leaves_a_redirected_stdout_alone(monkeypatch):
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(rate=True) as bar:
        task = bar.add_task("asking", total=2, told="1 refused")
        sys.stdout.write("answer\n")
        bar.advance(task)
    assert out.getvalue() == "answer\n"
    assert "asking" in err.getvalue()
    assert "1 refused" in err.getvalue()


def test_the_rate_is_shown_once_there_is_one():
    moments = iter([0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0])
    bar = Progress(disable=True, get_time=lambda: next(moments, 1.0))
    place = bar.add_task("x", total=100)
    task = bar.tasks[0]
    assert Rate().render(task).plain == ""
    for _ in range(3):
        bar.advance(place, 10)
    assert Rate().render(task).plain.endswith("/s")
