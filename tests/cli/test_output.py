import json
import math

import pytest

from lorascope.cli.output import (
    check_picture,
    complain,
    console,
    describe,
    note,
    plain_table,
    print_json,
    progress_bar,
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
