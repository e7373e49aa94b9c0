"""One file -> one result, whatever the file is: facts and problems, or its refusal as a problem.

A result becomes one JSON document (report.py). Errors of lorascope's tree and of the operating system are
results; any other exception is a fault of the program and passes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorascope.errors import LorascopeError
from lorascope.inspect.facts import Facts
from lorascope.inspect.headers import header_facts
from lorascope.inspect.problem import Problem, Severity, worst_first
from lorascope.inspect.problems import problems_of
from lorascope.inspect.refusals import refusal
from lorascope.inspect.report import refusal_json, report_json
from lorascope.io.locate import locate

__all__ = ["Examined", "examine"]


@dataclass(frozen=True)
class Examined:
    """The result for one path: `facts` is None for a file that was refused, whose problem says why."""

    path: str
    facts: Facts | None
    problems: tuple[Problem, ...]

    @property
    def outcome(self) -> str:
        """exact, ambiguous, part, header (values not looked at) or refused."""
        if self.facts is None:
            return "refused"
        if not self.facts.measured:
            return "header"
        return "part" if self.facts.left else "ambiguous" if self.facts.ambiguities else "exact"

    def worst(self) -> Severity | None:
        """The severity of the worst problem, None without one."""
        return self.problems[0].severity if self.problems else None

    def to_json(self) -> dict[str, Any]:
        """The document of the file (docs/inspect-schema.json)."""
        if self.facts is None:
            return refusal_json(self.path, self.problems)
        return report_json(self.path, self.facts, self.problems, outcome=self.outcome)


def examine(path: Path, *, headers: bool = False, allow_pickle: bool = False) -> Examined:
    """Read one file or adapter folder and judge it; a file that cannot be read is a result, not an error.

    Args:
        headers: look at the header only: no values, no norms, no torch. What is no safetensors file has none
            and is read whole.
        allow_pickle: also read pickles, through torch's weights-only loader.
    """
    try:
        place = locate(path, allow_pickle=allow_pickle)
        if headers and place.container == "safetensors":
            facts, found = header_facts(place)
        else:
            # here, not at the top: headers are read without torch
            from lorascope.inspect.measure import facts_of
            from lorascope.io.read import read_lora

            facts, found = facts_of(read_lora(path, allow_pickle=allow_pickle)), ()
    except (LorascopeError, OSError) as error:
        return Examined(str(path), None, (refusal(error),))
    return Examined(str(path), facts, worst_first((*found, *problems_of(facts))))
