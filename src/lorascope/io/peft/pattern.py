"""Rules of rank_pattern and alpha_pattern: regular expressions on a module's path, the first match wins.

    (.*\\.)?(KEY)$        peft 0.21.2, utils/other.py, get_pattern_key

The expressions come from a file, so they are hostile: Python's matcher backtracks, and a short expression
can keep it busy for years. What could take longer than a blink is refused before it runs.
"""

import math
import re
import time
import warnings
from collections.abc import Mapping
from typing import Any

from lorascope.errors import FormatError, HostileFileError

__all__ = ["Patterns"]

MAX_PATTERN_CHARACTERS = 2_000
MAX_LITERALS = 50_000
MAX_EXPRESSIONS = 2_000
MAX_STEPS = 1e8  # of backtracking for one name, a tenth of a second
# Of work for all names of a file, which may take two in all. Waiting for a core is no work: on a busy machine
# a good file would be refused.
MAX_SECONDS = 1.0

LITERAL = re.compile(r"[\w.\-]+", re.ASCII)
ESCAPES = re.compile(r"\\.", re.DOTALL)
CLASSES = re.compile(r"\[\^?\]?[^\]]*\]")
UNSAFE = re.compile(r"\(\?(?!:)|\\[1-9]")
UNBOUNDED = re.compile(r"[*+]|\{\d*,\d*\}")


class _Literals:
    """Patterns of letters and dots, found by look-up: a file may hold one for each of thousands of modules.

    A dot is any character, so patterns with dots at the same places share a table from the rest of the text.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        self._tables: dict[tuple[int, ...], dict[str, int]] = {}
        for pattern, place in places.items():
            dots = tuple(index for index, letter in enumerate(pattern) if letter == ".")
            self._tables.setdefault((len(pattern), *dots), {})[pattern] = place

    def first(self, module: str) -> int | None:
        """The lowest place among the patterns that match."""
        found = [
            place
            for (length, *dots), table in self._tables.items()
            if (place := self._look_up(module, length, dots, table)) is not None
        ]
        return min(found, default=None)

    def _look_up(
        self, module: str, length: int, dots: list[int], table: Mapping[str, int]
    ) -> int | None:
        start = len(module) - length
        if start < 0 or (start > 0 and module[start - 1] != "."):
            return None
        tail = list(module[start:])
        for dot in dots:
            tail[dot] = "."
        return table.get("".join(tail))


class Patterns:
    """An ordered table from pattern to value.

    Args:
        table: pattern -> value, in the order of the file.
        name: what the table is called, for messages.
        where: the file it came from, for messages.

    Raises:
        FormatError: a pattern is no regular expression.
        HostileFileError: a pattern could take too long to match.

    Example:
        >>> Patterns({"layers.0.self_attn.q_proj": 4, "q_proj": 8}, "rank_pattern", "").match("layers.1.q_proj")
        8
    """

    def __init__(self, table: Mapping[str, Any], name: str, where: str) -> None:
        self._context = f"Reading {name} of {where!r}"
        self._seconds_left = MAX_SECONDS
        literal = {pattern for pattern in table if LITERAL.fullmatch(pattern)}
        others = len(table) - len(literal)
        if len(literal) > MAX_LITERALS or others > MAX_EXPRESSIONS:
            raise HostileFileError(
                f"{self._context}: found {len(literal)} plain rules and {others} expressions, "
                f"expected at most {MAX_LITERALS} and {MAX_EXPRESSIONS}."
            )
        self._values = list(table.values())
        places = {pattern: place for place, pattern in enumerate(table)}
        self._literals = _Literals({pattern: places[pattern] for pattern in literal})
        self._expressions = [
            (place, pattern, self._compile(pattern))
            for pattern, place in places.items()
            if pattern not in literal
        ]

    def match(self, module: str) -> Any:
        """The value of the first pattern that matches the module's path, None if none does."""
        start = time.thread_time()
        first = self._literals.first(module)
        self._spend(time.thread_time() - start)
        for place, pattern, expression in self._expressions:
            if first is not None and place > first:
                break
            self._check_cost(pattern, module)
            start = time.thread_time()
            matches = expression.match(module)
            self._spend(time.thread_time() - start)
            if matches:
                first = place
                break
        return None if first is None else self._values[first]

    def _spend(self, seconds: float) -> None:
        self._seconds_left -= seconds
        if self._seconds_left < 0:
            raise HostileFileError(
                f"{self._context}: matching took longer than {MAX_SECONDS} seconds. Expected plain rules."
            )

    def _compile(self, pattern: str) -> re.Pattern[str]:
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise HostileFileError(
                f"{self._context}: a pattern has {len(pattern)} characters, "
                f"expected at most {MAX_PATTERN_CHARACTERS}."
            )
        if _may_explode(pattern):
            raise HostileFileError(
                f"{self._context}: the pattern {pattern!r:.80} repeats a group that repeats or branches, looks "
                "around or back. Matching it could take for ever. Try: a plain module path."
            )
        try:
            with warnings.catch_warnings():
                # of doubtful sets, in a file that is not ours to mend
                warnings.simplefilter("ignore")
                return re.compile(rf"(.*\.)?({pattern})$")
        except (re.error, RecursionError, OverflowError) as error:
            raise FormatError(
                f"{self._context}: {pattern!r:.80} is no regular expression: {error}."
            ) from error

    def _check_cost(self, pattern: str, module: str) -> None:
        """Ways to share the name among the repeats, times ways through the branches, stay bounded."""
        bare = _bare(pattern)
        repeats = len(UNBOUNDED.findall(bare)) + 1  # and the one that PEFT puts in front
        ways = len(module) ** repeats / math.factorial(repeats) * _branches(bare)
        if ways > MAX_STEPS:
            raise HostileFileError(
                f"{self._context}: matching {pattern!r:.80} against {module!r:.80} could take for ever. "
                "Try: a plain module path."
            )


def _bare(pattern: str) -> str:
    """The pattern with escaped characters and character classes as one plain letter each."""
    return CLASSES.sub("a", ESCAPES.sub("a", pattern))


def _branches(bare: str) -> float:
    """The product over groups of their alternatives, twice for each optional piece."""
    alternatives = [1.0]
    ways = 2.0 ** min(bare.count("?"), 200)
    for letter in bare:
        if letter == "(":
            alternatives.append(1.0)
        elif letter == "|":
            alternatives[-1] += 1.0
        elif letter == ")" and len(alternatives) > 1:
            ways = min(ways * alternatives.pop(), 1e100)
    return ways * alternatives[0]


def _may_explode(pattern: str) -> bool:
    if UNSAFE.search(pattern):
        return True
    bare = _bare(pattern)
    opened: list[int] = []
    for index, letter in enumerate(bare):
        if letter == "(":
            opened.append(index)
        elif letter == ")" and opened:
            inside = bare[opened.pop() + 1 : index].replace("?:", "")
            repeated = bare[index + 1 : index + 2] in ("*", "+", "{")
            if repeated and re.search(r"[*+{?|]", inside):
                return True
    return False
