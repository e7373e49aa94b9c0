import re
from pathlib import Path

import pytest

from lorascope.cli import __file__ as app_file
from lorascope.cli.app import app
from lorascope.cli.manual import commands, help_text, manual

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_shows_the_real_help():
    assert PAGE.read_text(encoding="utf-8") == manual(), (
        "Try: python -m lorascope.cli.manual > docs/cli.md"
    )


@pytest.mark.parametrize("words", list(commands(app)), ids=" ".join)
def test_every_command_is_on_the_page(words):
    heading = f"## {' '.join(['lorascope', *words])}\n"
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(heading) == 1
    assert help_text(words) in page


def test_help_does_not_depend_on_the_terminal(monkeypatch):
    wide = help_text(("predict",))
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert help_text(("predict",)) == wide


def test_every_json_document_is_described():
    source = Path(app_file).parent
    written = {
        name
        for path in source.glob("*.py")
        for name in re.findall(
            r'"schema": "(lorascope\.\w+/\d+)"', path.read_text(encoding="utf-8")
        )
    }
    assert len(written) == 7
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in written)
