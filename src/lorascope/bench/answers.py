"""How a method of the benchmark answers: it learns one zoo, and says what it predicts for several sets.

    Assignment   LoRAs with labels, the targets, the split, the seed, the method's dials, and sets to predict
    Answers      values or probabilities for every set and target, what it took, and why a set has none

A method is a function from the one to the other. Three kinds are here: models of the library (networks and
closed forms), controls, and boosted trees. A method never sees a label of a set.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorascope.bench.boosting import fit_boosting
from lorascope.bench.tasks import without_answer
from lorascope.core.batch import LoRABatch
from lorascope.errors import LorascopeError
from lorascope.models.closed_form import ClosedForm
from lorascope.models.model import Features, Model
from lorascope.predict.predictor import Predictor, read_outputs
from lorascope.train.controls import CONTROLS, predict_from
from lorascope.train.data import LabelledLoRAs
from lorascope.train.fit import fit_many
from lorascope.train.settings import Settings, default_settings
from lorascope.train.splits import Split

__all__ = ["Answer", "Answers", "Assignment", "boosted", "control", "model", "shared_outputs"]

Array = NDArray[np.float64]
BATCH = 256


@dataclass(frozen=True, eq=False)
class Assignment:
    """What a method is given."""

    data: LabelledLoRAs
    targets: tuple[str, ...]
    split: Split
    seed: int
    options: Mapping[str, Any]
    sets: Mapping[str, LabelledLoRAs]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a method gives back.

    `predictions` is set -> target -> (rows, k); `errors` says of a set that is missing there why. `seconds`
    is the processor's time for learning, `parameters` how many numbers were trained by gradients, `stored` how
    many bytes of state the folder of one predictor would hold, 0 for what cannot be saved.
    """

    predictions: Mapping[str, Mapping[str, Array]]
    errors: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    stored: int = 0


Answer = Callable[[Assignment], Answers]


def model(name: str) -> Answer:
    """A model of the library, trained on all targets at once."""

    def answer(given: Assignment) -> Answers:
        dials = {f.name for f in fields(Settings)}
        settings = {key: value for key, value in given.options.items() if key in dials}
        options = {key: value for key, value in given.options.items() if key not in dials}
        began = time.process_time()
        predictors = fit_many(
            given.data,
            given.targets,
            model=name,
            seed=given.seed,
            split=given.split,
            settings=default_settings(name, **settings),
            **options,
        )
        seconds = time.process_time() - began
        found, errors = each_set(given, lambda of: shared_outputs(predictors, of.batch))
        models = [predictor.model for predictor in predictors.values()]
        count = max(model.parameter_count for model in models)
        return Answers(found, errors, count, seconds, max(map(state_bytes, models)))

    return answer


def state_bytes(model: Model) -> int:
    """The bytes of all that a saved model holds: weights, and the training LoRAs that a kernel keeps."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def shared_outputs(predictors: Mapping[str, Predictor], batch: LoRABatch) -> dict[str, Array]:
    """What predictors that were trained together say, each LoRA being read once for all that allow it.

    Raises as a model does for LoRAs that it cannot read.
    """
    next(iter(predictors.values())).model.check(batch)
    found: dict[str, Array] = {}
    for names in read_alike(predictors, batch.select(slice(0, 2))):
        found |= _read_once({name: predictors[name] for name in names}, batch)
    return {name: found[name] for name in predictors}


def _read_once(predictors: Mapping[str, Predictor], batch: LoRABatch) -> dict[str, Array]:
    first = next(iter(predictors.values())).model
    raw: dict[str, list[torch.Tensor]] = {name: [] for name in predictors}
    with torch.no_grad():
        for start in range(0, max(batch.size, 1), BATCH):
            part = batch.select(slice(start, start + BATCH)).to(first.dtype, first.device)
            features = first.features(part)
            for name, predictor in predictors.items():
                raw[name].append(predictor.model.score(features))
    return {
        name: read_outputs(predictor.target, predictor.scaler, torch.cat(raw[name]))
        for name, predictor in predictors.items()
    }


def read_alike(predictors: Mapping[str, Predictor], batch: LoRABatch) -> list[list[str]]:
    """The names of predictors, together where the features of their models are the same.

    Networks that were trained as one have one preparation. Closed forms share a study, but may choose a
    bandwidth, or leave out the LoRAs without a label, for each target: their features are compared.
    """
    if not all(isinstance(predictor.model, ClosedForm) for predictor in predictors.values()):
        return [list(predictors)]
    groups: list[tuple[Features, list[str]]] = []
    for name, predictor in predictors.items():
        model = predictor.model
        with torch.no_grad():
            features = model.features(batch.to(model.dtype, model.device))
        together = next((names for other, names in groups if _same(features, other)), None)
        if together is None:
            groups.append((features, [name]))
        else:
            together.append(name)
    return [names for _, names in groups]


def _same(a: Features, b: Features) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)


def boosted(given: Assignment) -> Answers:
    """Boosted trees on log spectra, an ensemble or several for each target."""
    began = time.process_time()
    fitted = {
        name: fit_boosting(given.data, name, given.split, seed=given.seed) for name in given.targets
    }
    seconds = time.process_time() - began
    found, errors = each_set(
        given, lambda of: {name: predict(of.batch) for name, predict in fitted.items()}
    )
    return Answers(found, errors, 0, seconds)


def control(name: str) -> Answer:
    """A control, which reads numbers of every LoRA and no weights beyond them."""

    def answer(given: Assignment) -> Answers:
        began = time.process_time()
        found: dict[str, dict[str, Array]] = {}
        errors: dict[str, str] = {}
        tables: Tables = {}
        for target in given.targets:
            try:
                for key, values in _control(name, given, target, tables, errors).items():
                    found.setdefault(key, {})[target] = values
            except LorascopeError as error:
                errors[f"target {target}"] = str(error)
        return Answers(found, errors, 0, time.process_time() - began)

    return answer


Tables = dict[tuple[str, str], Array]


def _control(
    name: str, given: Assignment, target: str, tables: Tables, errors: dict[str, str]
) -> dict[str, Array]:
    """The predictions for one target: the sets' numbers stand below those of the training zoo."""
    reads_hyper = name == "hyper-parameters"

    def numbers(key: str, data: LabelledLoRAs, rows: Split) -> Array:
        place = key, target if reads_hyper else ""
        if place not in tables:
            tables[place] = CONTROLS[name](data, rows)
        return tables[place]

    data = without_answer(given.data, target)
    split = given.split.among(data.known(target)).check()
    columns, names = [numbers("", data, split)], []
    for key, of in given.sets.items():
        hidden = without_answer(of, target)
        if reads_hyper and set(hidden.hyper) != set(data.hyper):
            errors[key] = "its hyper-parameters are others"
            continue
        table = numbers(key, hidden, _everything(len(of)))
        if table.shape[1] != columns[0].shape[1]:
            errors[key] = "its layers are others"
            continue
        names.append(key)
        columns.append(table)
    if not names:
        return {}
    counts = np.cumsum([len(table) for table in columns])
    y = np.full((counts[-1], data.labels[target].shape[1]), np.nan)
    y[: counts[0]] = data.labels[target]
    whole = Split(split.train, split.validation, np.arange(counts[0], counts[-1]))
    predicted = predict_from(
        np.concatenate(columns), data.target(target), y, whole, source=data.source, seed=given.seed
    )
    return dict(zip(names, np.split(predicted, counts[1:-1] - counts[0]), strict=True))


def _everything(count: int) -> Split:
    rows = np.arange(count, dtype=np.int64)
    return Split(rows, rows[:0], rows[:0])


def each_set(
    given: Assignment, predict: Callable[[LabelledLoRAs], dict[str, Array]]
) -> tuple[dict[str, dict[str, Array]], dict[str, str]]:
    """The predictions for every set that can be read, and why the others cannot."""
    found, errors = {}, {}
    for name, of in given.sets.items():
        try:
            found[name] = predict(of)
        except (LorascopeError, RuntimeError) as error:
            errors[name] = f"{type(error).__name__}: {error}"
    return found, errors
