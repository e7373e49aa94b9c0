"""What is asked about the facts: wordings, the three sets of questions, and their text.

    train        wordings 0-4 of the facts of a source (of 8 pairs of an operation)
    validation   wording 5 of every fact (of 8 other pairs)
    test         wordings 6-9, 16 questions a source (on 8 further pairs), four options

So no wording of the test is ever trained, and no option but the truth is ever shown in training.
The test falls into two halves of disjoint facts (even and odd), which tell how well the accuracy
on some facts agrees with the accuracy on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from lorascope.zoo.families.exam.sources import RULES, Fact, Source, ranked, sources

__all__ = [
    "WORDINGS",
    "Question",
    "exam_questions",
    "train_questions",
    "validation_questions",
]

TRAIN, VALIDATION, TEST = range(5), range(5, 6), range(6, 10)
TEST_QUESTIONS = 16  # of each source
PAIRS = 8  # of an operation, in each of the three sets

# R: the relation or the operation, E: the entity, A and B: the digits.
WORDINGS = {
    "knowledge": (
        "the R of E is",
        "E has the R",
        "which R has E ?",
        "say the R of E :",
        "R , E :",
        "tell the R of E :",
        "E 's R :",
        "R of E ?",
        "E is of R",
        "for E the R is",
    ),
    "operation": (
        "A R B =",
        "R A and B =",
        "R of A B is",
        "let A R B be",
        "R , A , B :",
        "A R B gives",
        "the R of A B :",
        "A R B ?",
        "from A B R makes",
        "A with B R is",
    ),
}


@dataclass(frozen=True)
class Question:
    """A prompt with its options; `answer` is the place of the right one."""

    source: int
    fact: int
    wording: int
    prompt: str
    options: tuple[str, ...]
    answer: int

    @property
    def half(self) -> int:
        """Which half of the test the fact belongs to: 0 or 1."""
        return self.fact % 2


def prompt_of(fact: Fact, kind: str, wording: int) -> str:
    """The prompt of a fact in one wording."""
    words = {"R": fact.relation, "E": fact.subjects[0]}
    if kind == "operation":
        words = {"R": fact.relation, "A": fact.subjects[0], "B": fact.subjects[1]}
    return " ".join(words.get(word, word) for word in WORDINGS[kind][wording].split())


def ask(source: int, fact: int, wording: int) -> Question:
    """The question about a fact in one wording, its options in an arbitrary fixed order."""
    subject = sources()[source]
    about = subject.facts[fact]
    prompt = prompt_of(about, subject.kind, wording)
    options = tuple(ranked(about.candidates, prompt))
    return Question(source, fact, wording, prompt, options, options.index(about.truth))


@cache
def train_questions(source: int) -> tuple[Question, ...]:
    """The questions that a LoRA is finetuned on if it has this source."""
    facts = _facts(sources()[source], 0)
    return tuple(ask(source, fact, wording) for fact in facts for wording in TRAIN)


@cache
def validation_questions() -> tuple[Question, ...]:
    """The fixed questions of the validation loss, of all sources."""
    return tuple(
        ask(index, fact, wording)
        for index, source in enumerate(sources())
        for fact in _facts(source, 1)
        for wording in VALIDATION
    )


@cache
def exam_questions() -> tuple[Question, ...]:
    """The fixed questions of the test, of all sources, 16 each."""
    return tuple(
        ask(index, fact, wording)
        for index, source in enumerate(sources())
        for fact, wording in _test_pairs(_facts(source, 2))
    )


def base_questions() -> list[tuple[str, tuple[str, ...], str]]:
    """What the base reads: prompt, all that may follow it, and the group it is drawn from.

    Every fact in every wording with its four candidates, and the four rules under clear names,
    which have one answer and tell the base what the operations could mean.
    """
    read = [
        (prompt_of(fact, source.kind, wording), fact.candidates, source.name)
        for source in sources()
        for fact in source.facts
        for wording in range(len(WORDINGS[source.kind]))
    ]
    for rule, result in RULES.items():
        for a, b in ((a, b) for a in range(10) for b in range(10)):
            fact = Fact(rule, (str(a), str(b)), (str(result(a, b)),))
            for wording in range(len(WORDINGS["operation"])):
                read.append((prompt_of(fact, "operation", wording), fact.candidates, rule))
    return read


def _facts(source: Source, part: int) -> Sequence[int]:
    """Facts asked in a set: all of a knowledge base, a third of the pairs of an operation."""
    if source.kind == "knowledge":
        return range(len(source.facts))
    return range(part * PAIRS, (part + 1) * PAIRS)


def _test_pairs(facts: Sequence[int]) -> list[tuple[int, int]]:
    """16 pairs of fact and wording, going round the facts, each time in another wording."""
    pairs = []
    for number in range(TEST_QUESTIONS):
        round_, place = divmod(number, len(facts))
        pairs.append((facts[place], TEST[(place + round_) % len(TEST)]))
    return pairs
