"""One run of the benchmark: a method learns some LoRAs of one zoo and is scored on several sets.

    sets   validation, test; gauge, bf16, fp16, int8: the test rows written otherwise; other zoos, but for the
           LoRAs that share their group with one that is learned from

A method is given weights, groups and the labels of all targets. Hyper-parameters that are no target are hidden
from all but the control that reads them.

Scores are learned as the change against the base. Of LoRAs of another base a predictor knows the value of the
base that it learned from alone: what it predicts is that value plus the change, and what is compared is the
value. The same set with `OWN_BASE` after its name compares the changes, each against its own base.

A run is named by all that it depends on, so that one which is in the record is not made again.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lorascope.bench.alterations import ALTERATIONS, altered
from lorascope.bench.answers import Answers, Assignment
from lorascope.bench.methods import METHODS
from lorascope.bench.tasks import (
    base_values,
    same_groups,
    tasks_of,
    unlearned,
    without_hyper,
)
from lorascope.bench.terms import Terms, source_digest
from lorascope.errors import LorascopeError
from lorascope.io.folds import group_place
from lorascope.io.shards import Zoo, open_zoo
from lorascope.predict.target import Target
from lorascope.predict.versions import versions
from lorascope.train.data import LabelledLoRAs
from lorascope.train.fit import default_split
from lorascope.train.metrics import scores
from lorascope.train.splits import Rows, Split

__all__ = ["OWN_BASE", "Job", "Run", "Stage", "run_job", "thinned"]

#: After the name of a set: scores of changes, each against the own base of the LoRAs.
OWN_BASE = " (own base)"

Stage = Literal["tune", "score", "sizes", "kinds"]
#: Scores that are kept of every set: those of the tables, and those that choose.
KEPT = ("r2", "rmse", "spearman", "accuracy", "roc_auc", "log_loss")
Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # set -> target -> metric -> value


@dataclass(frozen=True)
class Job:
    """A run that is to be made; `loras` is how many are learned from, None for all."""

    stage: Stage
    zoo: str
    method: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    loras: int | None = None
    sets: tuple[str, ...] = ()

    def key(self, digests: Mapping[str, str], terms: Terms) -> str:
        """What names its run, given the digests of zoos and the terms of the suite."""
        facts = asdict(self) | {
            "data": [digests[self.zoo], *(digests[s] for s in self.sets if s in digests)],
            "version": terms.version,
            "protocol": terms.protocol,
            "revision": terms.revisions[self.method],
        }
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Run:
    """What came of a job: a line of the record.

    `scores` is set -> target -> metric, None where a score does not exist; `errors` says of sets (or targets
    of a control) without scores why; `error` why there is no score at all. `rows` counts the LoRAs of each
    part of the split, and of other zoos those that are tested. `changes` is set -> target -> the largest
    change of a prediction by an alteration. `stored` is the bytes of one predictor's state. `seconds` is the
    processor's time for learning, `all_seconds` that with predicting all sets; `code` the digest of the
    source that made it.
    """

    key: str
    stage: Stage
    zoo: str
    method: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    loras: int | None = None
    scores: Scores = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parameters: int = 0
    stored: int = 0
    seconds: float = 0.0
    all_seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    error: str | None = None

    def to_line(self) -> str:
        """The line of the record, with its newline."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Run":
        """A run from a line's data; keys that are not known are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def run_job(job: Job, folders: Mapping[str, str], digests: Mapping[str, str], terms: Terms) -> Run:
    """Make one run; an error that lorascope or torch raises becomes part of it."""
    began = time.process_time()
    head: dict[str, Any] = {
        "key": job.key(digests, terms),
        "versions": versions(),
        "code": source_digest(),
        **{name: getattr(job, name) for name in ("stage", "zoo", "method", "seed", "loras")},
        "options": dict(job.options),
    }
    try:
        given, moves = assignment(job, folders)
        answers = METHODS[job.method].answer(given)
    except (LorascopeError, RuntimeError) as error:  # torch's LinAlgError is a RuntimeError
        seconds = round(time.process_time() - began, 3)
        return Run(**head, error=f"{type(error).__name__}: {error}", all_seconds=seconds)
    parts = zip(("train", "validation", "test"), given.split.parts(), strict=True)
    return Run(
        **head,
        scores=scored(given, answers, moves),
        rows={name: len(rows) for name, rows in parts}
        | {name: len(given.sets.get(name, ())) for name in moves},
        errors=dict(answers.errors),
        changes=changes(given, answers),
        parameters=answers.parameters,
        stored=answers.stored,
        seconds=round(answers.seconds, 3),
        all_seconds=round(time.process_time() - began, 3),
    )


#: Set -> target -> its base's value - that of the training base.
Moves = Mapping[str, Mapping[str, float]]


def assignment(job: Job, folders: Mapping[str, str]) -> tuple[Assignment, Moves]:
    """The data, the split and the sets of a job, and how far the bases of the sets are off."""
    home = _load(job.zoo, folders[job.zoo])
    data = home.data
    split = default_split(data, job.seed)
    if job.loras is not None:
        split = thinned(data, split, job.loras, job.seed)
    sets, moves = {}, {}
    for name in job.sets:
        if name == "validation":
            sets[name] = data.select(split.validation)
        elif name == "test" or name in ALTERATIONS:
            test = data.select(split.test)
            sets[name] = test if name == "test" else altered(name, test)
        else:
            other = _load(name, folders[name])
            shared = same_groups(home.zoo, other.zoo)
            rest = unlearned(other.data, data, split) if shared else other.data
            if len(rest):
                sets[name] = rest
            moves[name] = {k: other.base[k] - x for k, x in home.base.items() if k in other.base}
    if not METHODS[job.method].reads_hyper:
        data, sets = without_hyper(data), {name: without_hyper(of) for name, of in sets.items()}
    targets = tuple(data.targets)
    return Assignment(data, targets, split, job.seed, dict(job.options), sets), moves


@dataclass(frozen=True, eq=False)
class Loaded:
    """A zoo, its LoRAs in memory, and its base's own scores."""

    zoo: Zoo
    data: LabelledLoRAs
    base: Mapping[str, float]


@lru_cache(maxsize=12)
def _load(name: str, folder: str) -> Loaded:
    zoo = open_zoo(Path(folder))
    return Loaded(zoo, tasks_of(zoo, name=name), base_values(zoo))


def thinned(data: LabelledLoRAs, split: Split, loras: int, seed: int) -> Split:
    """A split with at most so many LoRAs to learn from, an eighth of them for validation.

    They are the first by a hash of their group: more LoRAs hold all that fewer do.
    """
    held = max(1, round(loras / 8))
    return Split(
        _first(data, split.train, loras - held, seed),
        _first(data, split.validation, held, seed),
        split.test,
    )


def _first(data: LabelledLoRAs, rows: Rows, count: int, seed: int) -> Rows:
    if data.groups is None:
        return rows[:count]
    groups = data.groups
    places = np.array([group_place(f"size:{groups[int(row)]}", seed) for row in rows])
    return np.sort(rows[np.argsort(places, kind="stable")[:count]])


def scored(
    given: Assignment, answers: Answers, moves: Moves
) -> dict[str, dict[str, dict[str, float | None]]]:
    """The scores of all sets and targets, over the rows that have a label."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, predictions in answers.predictions.items():
        of, move = given.sets[name], moves.get(name)
        for key, by in [(name, move)] if move is None else [(name, move), (name + OWN_BASE, None)]:
            found[key] = {
                target: _score(given.data.target(target), _moved(of, target, by), target, predicted)
                for target, predicted in predictions.items()
                if target in of.labels and len(of.known(target))
            }
    return found


def _moved(of: LabelledLoRAs, target: str, move: Mapping[str, float] | None) -> LabelledLoRAs:
    """The labels of a target against the base that was learned from."""
    if not move or not move.get(target):
        return of
    return replace(of, labels={**of.labels, target: of.labels[target] + move[target]})


def _score(
    target: Target, of: LabelledLoRAs, name: str, predicted: NDArray[np.float64]
) -> dict[str, float | None]:
    rows = of.known(name)
    if not np.isfinite(predicted[rows]).all():
        return {target.metric: None}
    found = scores(target, of.labels[name][rows], predicted[rows])
    return {k: round(v, 6) if math.isfinite(v) else None for k, v in found.items() if k in KEPT}


def changes(given: Assignment, answers: Answers) -> dict[str, dict[str, float]]:
    """The largest change of any prediction for the test rows by each way of writing them otherwise.

    Of a value in deviations of the training labels, of classes in probability; three digits.
    """
    plain = answers.predictions.get("test", {})
    found: dict[str, dict[str, float]] = {}
    for name in ALTERATIONS:
        for target, predicted in answers.predictions.get(name, {}).items():
            scale = 1.0
            if given.data.target(target).kind == "regression":
                scale = float(np.nanstd(given.data.labels[target][given.split.train])) or 1.0
            largest = float(np.abs(predicted - plain[target]).max(initial=0.0)) / scale
            if math.isfinite(largest):
                found.setdefault(name, {})[target] = float(f"{largest:.3g}")
    return found
