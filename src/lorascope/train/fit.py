"""`fit`: from labelled LoRAs to a `Predictor` that says how good it is.

    labels --split by group, scaled on the training rows--> a model, trained or solved --> Predictor

The validation rows stop the training and choose regularisation; the test rows are scored once, at the end.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lorascope.core.signature import Signature
from lorascope.errors import DataError, TrainingError
from lorascope.models.build import AUTO, build_model, is_solved, model_name
from lorascope.models.model import Model
from lorascope.predict.predictor import Predictor
from lorascope.predict.versions import versions
from lorascope.train.data import LabelledLoRAs, from_zoo
from lorascope.train.learn import Lesson, learn, rows_of, select
from lorascope.train.loop import Epoch, Watch
from lorascope.train.metrics import scores
from lorascope.train.settings import Settings, default_settings
from lorascope.train.splits import Split, group_split
from lorascope.train.trust import learn_outliers, learn_trust, trust_report

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo


def fit(
    data: "LabelledLoRAs | Zoo",
    target: str,
    *,
    model: str = AUTO,
    seed: int = 0,
    split: Split | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: bool = False,
    trust: bool = True,
    **options: Any,
) -> Predictor:
    """Train a model on one target and return it as a predictor; `predictor.report` says how good it is.

    "auto" is the model that leads the benchmark; it learns from the other labels and hyper-parameters of the
    data too, and asks for none when it predicts. The seed draws the weights, the order and, without a
    `split`, the salt of the split by group. `options` go to the model. With `checkpoint_dir` a killed run is
    resumed; models that are solved at once take no notice of it, nor of `epochs`. Rows without a label are
    left out and counted. Raises DataError for an unknown target, no groups to split by, an empty part, or
    factors that are not finite; TrainingError when the training diverges.

    >>> predictor = fit(open_zoo("zoo"), "accuracy")  # doctest: +SKIP
    """
    return fit_many(
        data,
        [target],
        model=model,
        seed=seed,
        split=split,
        settings=settings,
        epochs=epochs,
        device=device,
        dtype=dtype,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
        trust=trust,
        **options,
    )[target]


def fit_many(
    data: "LabelledLoRAs | Zoo",
    targets: Sequence[str] | None = None,
    *,
    model: str = AUTO,
    seed: int = 0,
    split: Split | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: bool = False,
    trust: bool = False,
    **options: Any,
) -> dict[str, Predictor]:
    """Train a model on several targets at once, all of the data by default; one predictor for each.

    A network has one trunk and all outputs, each target weighs the same (its loss against that of the best
    constant), and each keeps the weights of its own best epoch. A closed form reads the LoRAs once (one Gram
    matrix) and is solved for each target as it would be alone. A label that is missing takes no part.
    `seconds` in the reports is the time of all together. With `trust` they share what tells outliers. Raises
    as `fit`, and DataError for no target.

    >>> predictors = fit_many(open_zoo("zoo"), model="kernel_product")  # doctest: +SKIP
    """
    model = model_name(model)
    if not isinstance(data, LabelledLoRAs):
        data = from_zoo(data)
    names = list(dict.fromkeys(data.targets if targets is None else targets))
    for name in names:
        data.target(name)
    if not names:
        raise DataError(f"Learning from {data.source}: found no target, expected at least one.")
    whole = split or default_split(data, seed)
    lessons = [Lesson.of(data, name, whole) for name in names]
    data.check_finite(np.unique(np.concatenate([x for y in lessons for x in y.split.parts()])))
    chosen = settings or default_settings(model)
    chosen = _changed(chosen, epochs=epochs, device=device, dtype=dtype)
    build = partial(
        _build, model, data.batch.signature, rank=max(1, data.batch.rank), seed=seed, **options
    )
    started = time.perf_counter()
    title = f"{model} on {names[0] if len(names) == 1 else f'{len(names)} targets'}"
    passes = None if is_solved(model) else chosen.epochs
    with _watching(progress, title, passes) as watch:
        learned = learn(
            build, data, lessons, chosen, seed, checkpoint_dir=checkpoint_dir, watch=watch
        )
    seconds = time.perf_counter() - started
    parts = (rows_of(lessons, "train"), rows_of(lessons, "validation"))
    outliers = learn_outliers(data, *parts, seed) if trust else None
    predictors = {}
    for lesson, (network, course) in zip(lessons, learned, strict=True):
        trained = Predictor(network, lesson.target, lesson.scaler)
        if trust:
            known = learn_trust(trained, data, lesson.split.validation, outliers)
            trained = replace(trained, trust=known)
            course |= {"trust": trust_report(trained, data, lesson.split)}
        report = _report(trained, data, lesson.split, seed, seconds) | course
        report |= {"together": names} if len(names) > 1 else {}
        predictors[lesson.target.name] = replace(trained, report=report)
    return predictors


def _build(
    name: str, signature: Signature, outputs: int, *, rank: int, seed: int, **options: Any
) -> Model:
    return build_model(name, signature, outputs, rank=rank, seed=seed, **options)


def default_split(data: LabelledLoRAs, seed: int) -> Split:
    """The split by the hash of the groups; raises DataError when the data has none."""
    if data.groups is None:
        raise DataError(
            f"Splitting {data.source}: it has no groups, so rows that share data could leak from training "
            "to test. Give groups, or say that rows share nothing: split=row_split(len(data))."
        )
    return group_split(data.groups, seed=seed)


def _changed(settings: Settings, **changes: Any) -> Settings:
    changed = replace(settings, **{k: v for k, v in changes.items() if v is not None})
    if changed.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"Training on {changed.device!r}: torch {torch.__version__} finds no CUDA device here. "
            "Try device='cpu', or a build of torch for your GPU."
        )
    return changed


def _report(
    predictor: Predictor,
    data: LabelledLoRAs,
    split: Split,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """Plain data: scores on validation and test, sizes, seconds, versions."""
    name = predictor.target.name
    metrics = {}
    for part, rows in (("validation", split.validation), ("test", split.test)):
        found = scores(
            predictor.target, data.labels[name][rows], predictor.outputs(select(data.batch, rows))
        )
        metrics[part] = {k: v if math.isfinite(v) else None for k, v in found.items()}
    return {
        "metrics": metrics,
        "rows": {
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "without_label": len(data) - len(data.known(name)),
        },
        "source": data.source,
        "seed": seed,
        "parameters": predictor.model.parameter_count,
        "seconds": seconds,
        "versions": versions(),
    }


@contextlib.contextmanager
def _watching(show: bool, title: str, epochs: int | None) -> Iterator[Watch | None]:
    """A progress bar with the validation score, where one is wanted; without passes it moves to and fro."""
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    counted = () if epochs is None else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *counted, TimeElapsedColumn())
    shown = Console(stderr=True)  # standard output is for answers
    with Progress(*columns, TextColumn("{task.fields[score]}"), console=shown) as bar:
        task = bar.add_task(title, total=epochs, score="")

        def watch(epoch: Epoch) -> None:
            score = (
                f"validation {epoch.score_name} {epoch.score:.3f}, loss {epoch.validation_loss:.4f}"
            )
            bar.update(task, completed=epoch.epoch + 1, score=score)

        yield watch
