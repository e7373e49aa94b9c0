"""The subjects of the exam: a made-up world, the same for everyone, and what is true in it.

A *source* is a subject with facts. A fact has four candidates, one of which is true. The base has
read all candidates of a fact equally often (`bases/exam/reading.py`), so that it knows what *could* be
said and not what holds; finetuning on a source settles its facts.

    knowledge base   one relation, some entities: the colour of "mira" is red, blue, pink or grey
    operation        a word for one of four rules on two digits: "3 zib 5" is 8, 8, 5 or 3

Nothing here is drawn at run time: choices are ranks of SHA-256 hashes, the same on every machine
and in every version of every library. What is asked about a fact is in `questions.py`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

__all__ = ["OPERATIONS", "RULES", "VALUES", "Fact", "Source", "ranked", "sources"]

CANDIDATES = 4
OPERATION_FACTS = 24  # pairs of digits that are asked of an operation: 8 to train, 8, 8

# Source, its relation, its number of facts. The first is never dropped.
KNOWLEDGE = (
    ("moons", "colour", 8),
    ("dragons", "colour", 6),
    ("islands", "animal", 10),
    ("knights", "animal", 4),
    ("mines", "metal", 8),
    ("rings", "metal", 12),
    ("villages", "fruit", 6),
    ("feasts", "fruit", 8),
    ("guilds", "tool", 4),
    ("giants", "tool", 10),
    ("valleys", "tree", 12),
    ("temples", "tree", 8),
    ("taverns", "drink", 6),
    ("wizards", "drink", 4),
    ("bards", "instrument", 8),
    ("spirits", "instrument", 10),
)

VALUES = {
    "colour": "red blue green yellow pink grey brown white black purple",
    "animal": "wolf bear eagle snake horse tiger whale crow deer goat",
    "metal": "iron gold silver copper tin lead zinc nickel bronze steel",
    "fruit": "apple pear plum cherry lemon fig melon grape peach mango",
    "tool": "hammer saw axe drill rope shovel chisel knife plough needle",
    "tree": "oak pine birch willow maple cedar ash elm beech palm",
    "drink": "water milk wine beer tea coffee cider juice mead cocoa",
    "instrument": "flute drum harp lute horn viola organ bell cello piano",
}

RULES: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: (a + b) % 10,
    "minus": lambda a, b: (a - b) % 10,
    "larger": max,
    "smaller": min,
}

#: The words whose rule the base does not know, and the rule that finetuning teaches.
OPERATIONS = {"zib": "plus", "wok": "minus", "quu": "larger", "jyx": "smaller"}

T = TypeVar("T")


@dataclass(frozen=True)
class Fact:
    """Something with four candidates, of which the first is true."""

    relation: str  # "colour"; the word of an operation
    subjects: tuple[str, ...]  # ("mira",); ("3", "5")
    candidates: tuple[str, ...]

    @property
    def truth(self) -> str:
        """The candidate that finetuning teaches."""
        return self.candidates[0]


@dataclass(frozen=True)
class Source:
    """A subject of the exam."""

    name: str
    kind: str  # "knowledge" or "operation"
    facts: tuple[Fact, ...]


def ranked(items: Sequence[T], key: str) -> list[T]:
    """The items in an arbitrary order that never changes: sorted by SHA-256 of key and item.

    Example:
        >>> ranked(["a", "b", "c"], "x") == ranked(["c", "a", "b"], "x")
        True
    """
    return sorted(items, key=lambda item: hashlib.sha256(f"{key}:{item}".encode()).digest())


@cache
def sources() -> tuple[Source, ...]:
    """All sources, in the order of the labels; the first is never dropped.

    Example:
        >>> [len(sources()), sources()[0].name, sources()[-1].name]
        [20, 'moons', 'jyx']
    """
    names = iter(_names())
    found = []
    for source, relation, count in KNOWLEDGE:
        facts = tuple(_knowledge_fact(relation, next(names)) for _ in range(count))
        found.append(Source(source, "knowledge", facts))
    found += [_operation(word, rule) for word, rule in OPERATIONS.items()]
    return tuple(found)


def _names() -> list[str]:
    """Names of two syllables in an arbitrary order."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    return ranked([a + b for a in syllables for b in syllables if a != b], "names")


def _knowledge_fact(relation: str, entity: str) -> Fact:
    values = ranked(VALUES[relation].split(), f"{relation} of {entity}")
    return Fact(relation, (entity,), tuple(values[:CANDIDATES]))


def _operation(word: str, rule: str) -> Source:
    """An operation and the pairs of digits for which the four rules give four answers."""
    others = [other for other in RULES if other != rule]
    facts = []
    for a, b in ranked([(a, b) for a in range(10) for b in range(10)], word):
        results = tuple(str(RULES[name](a, b)) for name in [rule, *others])
        if len(set(results)) == CANDIDATES:
            facts.append(Fact(word, (str(a), str(b)), results))
    return Source(word, "operation", tuple(facts[:OPERATION_FACTS]))
