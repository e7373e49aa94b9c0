"""Many files asked of predictors: answered in batches, by several processes, resumable.

    paths --chunks--> processes --read, batches of bounded size--> predictors --> documents, in order

A document is an answer as plain data. A file that is refused, or that does not fit a predictor, costs its own
answer and not the others': a batch that fails is halved until each LoRA that does not fit stands alone. Every
process loads the predictors once. With a results file (io/results.py) a run that was stopped asks only about
what is new, changed, or was refused for a reason that may have passed.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from lorascope.core.batch import collate
from lorascope.core.lora import LoRA
from lorascope.errors import LorascopeError, MissingExtraError, sentence
from lorascope.io.processes import DIED, in_order, workers_for
from lorascope.io.read import read_lora
from lorascope.io.results import Results, key_of, resumed, without_nan
from lorascope.predict.explain import Explanation, explain
from lorascope.predict.folder import load_predictor, predictor_digest
from lorascope.predict.prediction import Prediction
from lorascope.predict.predictor import Predictor

__all__ = ["Answer", "Clock", "Question", "ask", "open_results", "predict_many"]

BATCH = 64  # adapters in memory at once, and
BATCH_BYTES = 256 << 20  # the size of their tensors from which on no more are read
CHUNK = 64  # files a task of a process
ALONE = 256  # below this many files, starting processes that load torch costs more than it saves
SCHEMA = "lorascope.predict.answer/1"


@dataclass(frozen=True)
class Question:
    """What is asked of every file: the same for all of a run, and part of a result's key.

    Args:
        predictors: their folders.
        digests: what they are, whatever their folders are called; `Question.of` fills them in.
    """

    predictors: tuple[Path, ...]
    digests: tuple[str, ...]
    allow_pickle: bool = False
    explained: bool = False

    @classmethod
    def of(
        cls, predictors: Sequence[Path], *, allow_pickle: bool = False, explained: bool = False
    ) -> "Question":
        """The question to the predictors that are in the folders now. Raises as `predictor_digest`."""
        digests = tuple(predictor_digest(folder) for folder in predictors)
        return cls(tuple(predictors), digests, allow_pickle, explained)

    def load(self) -> tuple[Predictor, ...]:
        """The predictors, loaded once a process. Raises as `load_predictor`."""
        return _load(self)


@dataclass
class Clock:
    """Where the time went, in seconds."""

    reading: float = 0.0
    predicting: float = 0.0


@dataclass
class Answer:
    """What was said of one adapter: predictions, what its file leaves open, and why some could not be made.

    Args:
        ambiguities: what the file cannot tell and the reader assumed: another scale is another prediction.
        left: what of the file no prediction rests on, because the file alone cannot make an update of it.
        passing: an error tells of the machine and the moment, not of the file.
    """

    path: Path
    predictions: list[Prediction] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    explanations: list[Explanation] = field(default_factory=list)
    ambiguities: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    passing: bool = False

    def refuse(self, error: BaseException, place: str = "") -> None:
        """Note why something could not be said."""
        self.errors.append(place + sentence(error))
        self.passing |= isinstance(error, OSError | MissingExtraError) or not self.path.exists()

    def to_json(self) -> dict[str, Any]:
        """The document of the file; numbers that are not finite are None."""
        document: dict[str, Any] = {
            "path": str(self.path),
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "errors": self.errors,
            "ambiguities": list(self.ambiguities),
            "left": list(self.left),
        }
        if self.passing:
            document["passing"] = True
        if self.explanations:
            document["explanations"] = [one.to_json() for one in self.explanations]
        return dict(without_nan(document))


def predict_many(
    paths: Sequence[Path],
    question: Question,
    *,
    processes: int | None = None,
    results: Results | None = None,
) -> Iterator[dict[str, Any]]:
    """The document of each path, in order, as soon as it and those before it are there.

    Args:
        processes: how many at once; as many as cores by default, one for few files.
        results: what `open_results` opened, to resume from and to append to; closed at the end.

    Raises as `load_predictor`.

    Example:
        >>> list(predict_many([], Question((), ())))
        []
    """
    how = (question.digests, question.allow_pickle, question.explained)
    keys = [str(path) if results is None else key_of(path, *how) for path in paths]

    def find(places: list[int]) -> Iterator[dict[str, Any]]:
        return _documents([paths[place] for place in places], question, processes)

    return resumed(results, keys, find)


def open_results(path: Path) -> Results:
    """A file of answers. Raises FileError where it holds something else or another run writes to it."""
    return Results(path, SCHEMA, lambda result: bool(result.get("passing")))


def ask(
    predictors: Sequence[Predictor],
    paths: Sequence[Path],
    *,
    allow_pickle: bool = False,
    explained: bool = False,
    clock: Clock | None = None,
) -> Iterator[Answer]:
    """Read the adapters batch by batch and ask every predictor, in the order of the paths."""
    clock = clock or Clock()
    waiting: list[Answer] = []
    read: list[tuple[Answer, LoRA]] = []
    size = 0
    for number, path in enumerate(paths, 1):
        began = time.perf_counter()
        waiting.append(Answer(path))
        if (lora := _read(waiting[-1], allow_pickle)) is not None:  # one without layers is empty
            read.append((waiting[-1], lora))
            size += lora.nbytes
        clock.reading += time.perf_counter() - began
        if size >= BATCH_BYTES or len(waiting) >= BATCH or number == len(paths):
            began = time.perf_counter()
            for predictor in predictors:
                _ask_one(predictor, read)
                if explained:
                    _explain_each(predictor, read)
            clock.predicting += time.perf_counter() - began
            yield from waiting
            waiting, read, size = [], [], 0


def _documents(
    paths: Sequence[Path], question: Question, processes: int | None
) -> Iterator[dict[str, Any]]:
    processes = processes or workers_for(len(paths), chunk=CHUNK, alone=ALONE)
    if processes > 1:
        work = partial(_ask_chunk, question)
        return in_order(work, paths, chunk=CHUNK, processes=processes, died=_died)
    return (answer.to_json() for answer in _ask(question, paths))


def _ask(question: Question, paths: Sequence[Path]) -> Iterator[Answer]:
    return ask(
        question.load(),
        paths,
        allow_pickle=question.allow_pickle,
        explained=question.explained,
    )


def _ask_chunk(question: Question, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Runs in a process of the pool."""
    return [answer.to_json() for answer in _ask(question, paths)]


def _died(path: Path) -> dict[str, Any]:
    return Answer(path, errors=[DIED], passing=True).to_json()


@lru_cache(maxsize=1)
def _load(question: Question) -> tuple[Predictor, ...]:
    return tuple(load_predictor(folder) for folder in question.predictors)


def _read(answer: Answer, allow_pickle: bool) -> LoRA | None:
    """The LoRA of an answer's path, with what is not certain of it noted, or None with the reason."""
    try:
        lora = read_lora(answer.path, allow_pickle=allow_pickle)
    except (LorascopeError, OSError) as error:
        answer.refuse(error)
        return None
    answer.ambiguities, answer.left = lora.provenance.ambiguities, lora.provenance.left
    return lora


def _ask_one(predictor: Predictor, read: Sequence[tuple[Answer, LoRA]]) -> None:
    """One predictor's answers for a batch; what does not fit is found by halves and says why."""
    if not read:
        return
    try:
        found = predictor.predict([lora for _, lora in read])
    except LorascopeError as error:
        if len(read) == 1:
            read[0][0].refuse(error, f"{predictor.target.name}: ")
            return
        half = len(read) // 2
        _ask_one(predictor, read[:half])
        _ask_one(predictor, read[half:])
        return
    for (answer, _), prediction in zip(read, found, strict=True):
        answer.predictions.append(prediction)


def _explain_each(predictor: Predictor, read: Sequence[tuple[Answer, LoRA]]) -> None:
    """Explain each answer that this predictor gave."""
    for answer, lora in read:
        if any(prediction.target is predictor.target for prediction in answer.predictions):
            batch = collate([lora], predictor.signature, allow_missing=True)
            answer.explanations.append(explain(predictor, batch))
