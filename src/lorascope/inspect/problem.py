"""`Problem`: one finding about a file, as a value, and the words that its sentence is made of.

error     the file is broken or does nothing: do not use it
warning   it can be used, but something in it is wrong, wasted or unknown
note      a fact that a user of the file should know
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["Problem", "Severity", "coded", "count", "some", "worst_first"]

SHOWN = 3  # layers named in a sentence; all of them stand in `layers`


class Severity(Enum):
    """How bad a problem is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Problem:
    """One finding: its code, how bad it is, a sentence, and the layers concerned."""

    code: str
    severity: Severity
    sentence: str
    layers: tuple[str, ...] = ()


def worst_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Errors, then warnings, then notes; the given order within each."""
    order = list(Severity)
    return tuple(sorted(problems, key=lambda problem: order.index(problem.severity)))


def coded(sentence: str, severity: Severity, fallback: str) -> Problem:
    """A problem from a sentence that starts with its code and a colon."""
    code, colon, rest = sentence.partition(":")
    named = bool(colon) and code.replace("-", "").replace("_", "").isalnum()
    return Problem(code, severity, rest.strip()) if named else Problem(fallback, severity, sentence)


def some(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def count(things: Sequence[object], noun: str) -> str:
    """A number with its noun."""
    if len(things) == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{len(things)} {plural}"
