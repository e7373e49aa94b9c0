"""Suites: which methods run on which zoos, how often, and what they are asked beside.

    tune      every method, its trials, one seed, at most 1,000 LoRAs; judged on the validation rows
    score     every method with the trial of each kind of target, three seeds, all LoRAs; tested on the
              unseen groups of the zoo, on the same LoRAs written otherwise, and on other zoos whole
    leaders   the controls and the six best of those tables: fewer training LoRAs, other kinds of adapters

A zoo that is missing is left out with what needs it, and the plan says so. Zoos of no collection are scored
too, without other zoos beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorascope.bench.alterations import ALTERATIONS
from lorascope.bench.methods import METHODS, TRIALS, controls
from lorascope.errors import DataError

__all__ = ["SUITES", "Suite", "suite_of"]

FACES, OBJECTS, QWEN, LLAMA = "faces", "objects", "exam-qwen", "exam-llama"
RANKS = tuple(f"faces-rank-{rank}" for rank in (1, 2, 8, 16))


@dataclass(frozen=True)
class Suite:
    """What is run.

    `zoos` have tables of their own; `shifts` are zoos that methods are tested on which were trained on
    another; `kinds` are small zoos of other adapters that the leaders of another zoo are trained on;
    `shares` is how much of each zoo is built where none is given.
    """

    name: str
    methods: tuple[str, ...]
    zoos: tuple[str, ...]
    shifts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    trials: int = TRIALS
    tuning_loras: int = 1000
    sizes: tuple[int, ...] = ()
    leaders: int = 6
    alterations: tuple[str, ...] = tuple(ALTERATIONS)
    shares: Mapping[str, int] = field(default_factory=dict)

    def needed(self) -> tuple[str, ...]:
        """The zoos that it reads, each once."""
        shifts = [name for zoo in self.zoos for name in self.shifts.get(zoo, ())]
        return tuple(dict.fromkeys([*self.zoos, *shifts, *self.kinds]))


#: The methods of the paper, its settings and tuned, with the controls.
PAPER = (*controls(), *(name for name, method in METHODS.items() if method.paper))
#: Those that are done in seconds.
QUICK = (
    *controls(),
    "ridge",
    "svd",
    "kernel_cosine",
    "kernel_product",
    "o_align",
    "gl_net",
    "fusion",
)

SHIFTS: Mapping[str, tuple[str, ...]] = {
    FACES: (*RANKS, "faces-second", "faces-control"),
    QWEN: ("exam-qwen-second", "exam-qwen-control", "exam-dora"),
    LLAMA: ("exam-llama-second", "exam-llama-control"),
}

SUITES: Mapping[str, Suite] = {
    "full": Suite(
        "full",
        tuple(METHODS),
        (FACES, OBJECTS, QWEN, LLAMA),
        SHIFTS,
        {"faces-conv": FACES, "exam-targets": QWEN, "exam-dora": QWEN},
        sizes=(50, 100, 200, 500, 1000),
    ),
    "paper": Suite(
        "paper",
        PAPER,
        (FACES, OBJECTS, QWEN),
        {FACES: RANKS},
        alterations=(),
    ),
    "small": Suite(
        "small",
        QUICK,
        (FACES, QWEN),
        {FACES: ("faces-rank-2",), QWEN: ("exam-qwen-second",)},
        seeds=(0, 1),
        trials=2,
        tuning_loras=200,
        sizes=(50, 100),
        leaders=2,
        shares={FACES: 240, "faces-rank-2": 32, QWEN: 360, "exam-qwen-second": 64},
    ),
}


def suite_of(name: str) -> Suite:
    """A suite by name; raises DataError for one that does not exist.

    >>> suite_of("full").seeds
    (0, 1, 2)
    """
    if name not in SUITES:
        raise DataError(
            f"Looking for the suite {name!r}: there is none of that name, expected one of "
            f"{', '.join(SUITES)}."
        )
    return SUITES[name]
