"""Tests that police the house: names, mirrors, docs, versions, and what no file may speak of."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lorascope
from lorascope import errors
from tests.readme_tree import BEGIN, END, README, tree

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/lorascope"
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def tracked() -> list[Path]:
    """The files of the project: those that git tracks, or all below an unpacked source folder."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("module", [m for m in MODULES if m.name != "__init__.py"], ids=str)
def test_every_source_file_has_its_test_file(module):
    mirror = ROOT / "tests" / module.parent / f"test_{module.name}"
    assert mirror.is_file(), f"{module} has no {mirror.relative_to(ROOT)}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_source_file_says_what_it_is(module):
    text = (SOURCE / module).read_text()
    assert text.startswith('"""'), f"{module} does not open with a docstring"


@pytest.mark.parametrize("module", [m for m in MODULES if m.name == "__init__.py"], ids=str)
def test_all_names_what_is_there(module):
    name = ".".join(("lorascope", *module.parent.parts))
    room = importlib.import_module(name)
    names = getattr(room, "__all__", [])
    assert len(set(names)) == len(names)
    for public in names:
        assert hasattr(room, public), f"{name}.__all__ names {public}, which is not there"


def test_the_public_face_is_lazy():
    code = "import sys, lorascope; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
    assert set(lorascope.__all__) == {*lorascope.ROOMS, "errors"}
    assert set(lorascope.__all__) <= set(dir(lorascope))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lorascope.nothing  # noqa: B018


def test_the_version_is_that_of_the_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    top = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert top is not None
    assert top.group(1) == project["version"] == lorascope.__version__


def test_every_error_and_model_is_in_the_docs():
    from lorascope.models import MODELS

    docs = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for name in [*errors.__all__, *MODELS]:
        assert name in docs, f"{name} is not in docs/"


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_the_tree_of_the_readme_is_the_tree():
    text = README.read_text(encoding="utf-8")
    expected = f"{BEGIN}{tree()}{END}"
    assert expected in text, "Run: python -m tests.readme_tree"
    for path in sorted(SOURCE.iterdir()):
        if path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in text.split(BEGIN)[0], f"{path.name} is not among the rooms"


def test_the_table_of_the_readme_is_that_of_the_benchmark():
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    part = page.split("\n## At a glance\n")[1].split("\n## ")[0]
    table = [line for line in part.splitlines() if line.startswith("|")]
    assert len(table) > 2
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join(table) in readme, "copy the table of docs/benchmark.md, At a glance"


def test_the_readme_says_how_often_the_default_is_beaten_as_the_benchmark_counted():
    """The page makes that sentence from the record (`bench.page_glance.verdict`), the README is written."""
    said = re.compile(r"beaten by more than two standard errors on (?:none|\d+) of the \d+ tasks")
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    part = page.split("\n## At a glance\n")[1].split("\n## ")[0]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert said.findall(readme)
    for phrase in said.findall(part):
        assert phrase in readme, "write in the README what docs/benchmark.md says, At a glance"


def test_no_file_names_a_place_of_one_machine():
    place = re.compile(r"/(?:work|root|home|farm)/[A-Za-z0-9_.]")
    for path in tracked():
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ""} and path.name != "LICENSE":
            found = place.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert found is None, f"{path.relative_to(ROOT)} holds {found.group()!r}"


def test_files_stay_small():
    limit = 400
    for module in MODULES:
        lines = (SOURCE / module).read_text().splitlines()
        assert len(lines) <= limit, f"{module} has {len(lines)} lines: split it"
