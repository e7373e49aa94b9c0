"""The places in the source that refuse a file: every `raise` of an error of files in the readers.

A site is found in the source by its syntax tree and in an error by its traceback, so that a refusal without a
story, or a story that meets another refusal than it tells of, is seen.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lorascope.io

ROOM = Path(lorascope.io.__file__).parent
# What reads no foreign file: our own shards and results, and writing.
OTHERS = ("provenance.py", "shard_file.py", "shard_writer.py", "shards.py", "results.py", "write.py",
          "write_config.py", "kohya_write.py", "kohya_modules.py", "layout.py", "__init__.py")  # fmt: skip
# What a pattern raises for its own callers.
OURS = ("ValueError", "AttributeError")


@dataclass(frozen=True)
class Site:
    """One `raise`: its file in the room io, function, lines, and the place among those of its function."""

    file: str
    function: str
    first: int
    last: int
    number: int

    def __str__(self) -> str:
        return f"{self.file}:{self.function}:{self.number}"


@cache
def sites() -> tuple[Site, ...]:
    """All of them, in the order of the files."""
    found = []
    for path in sorted(ROOM.rglob("*.py")):
        if path.name not in OTHERS:
            found.extend(_sites_of(path))
    return tuple(found)


def site_of(error: BaseException) -> Site | None:
    """The site that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    path, line = Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno
    if not path.is_relative_to(ROOM):
        return None
    file = path.relative_to(ROOM).as_posix()
    return next((s for s in sites() if s.file == file and s.first <= line <= s.last), None)


def _sites_of(path: Path) -> list[Site]:
    found = []
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        raises = [node for node in _own(function) if isinstance(node, ast.Raise)]
        ours = [node for node in raises if node.exc is not None and _name(node.exc) not in OURS]
        file = path.relative_to(ROOM).as_posix()
        for number, node in enumerate(ours, 1):
            found.append(Site(file, function.name, node.lineno, node.end_lineno or 0, number))
    return found


def _own(function: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of a function without those of functions in it."""
    own: list[ast.AST] = []
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop(0)
        own.append(node)
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))
    return sorted(own, key=lambda node: getattr(node, "lineno", 0))


def _name(raised: ast.expr) -> str:
    called = raised.func if isinstance(raised, ast.Call) else raised
    return called.id if isinstance(called, ast.Name) else ""
