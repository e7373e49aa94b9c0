"""`fit`: from labelled LoRAs to a `Predictor` that says how good it is.

    labels --split by group, scaled on the training rows--> a model, trained or solved --> Predictor

The validation rows stop the training and choose regularisation; the test rows are scored once, at the end.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorascope.core.batch import LoRABatch
from lorascope.errors import DataError, TrainingError
from lorascope.models.build import build_model
from lorascope.models.closed_form import ClosedForm
from lorascope.models.model import Model
from lorascope.predict.predictor import Predictor
from lorascope.predict.scaler import Scaler
from lorascope.predict.target import Target
from lorascope.predict.versions import versions
from lorascope.train.data import LabelledLoRAs, from_zoo
from lorascope.train.loop import Epoch, Watch, train_model
from lorascope.train.metrics import scores
from lorascope.train.settings import Settings, default_settings
from lorascope.train.splits import Rows, Split, group_split

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo

Array = NDArray[np.float64]


def fit(
    data: "LabelledLoRAs | Zoo",
    target: str,
    *,
    model: str = "gl_net",
    seed: int = 0,
    split: Split | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> Predictor:
    """Train a model on one target and return it as a predictor; `predictor.report` says how good it is.

    The seed draws the weights, the order and, without a `split`, the salt of the split by group. `options`
    go to the model. With `checkpoint_dir` a killed run is resumed. Rows without a label are left out and
    counted. Raises DataError for an unknown target, no groups to split by, an empty part, or factors that are
    not finite; TrainingError when the training diverges.

    >>> predictor = fit(open_zoo("zoo"), "accuracy", model="gl_net")  # doctest: +SKIP
    """
    if not isinstance(data, LabelledLoRAs):
        data = from_zoo(data, [target])
    task = data.target(target)
    split = (split or default_split(data, seed)).among(data.known(target)).check()
    data.check_finite(np.concatenate(split.parts()))
    chosen = settings or default_settings(model)
    chosen = _changed(chosen, epochs=epochs, device=device, dtype=dtype)
    network = build_model(
        model,
        data.batch.signature,
        task.out_features,
        rank=max(1, data.batch.rank),
        seed=seed,
        **options,
    )
    scaler = Scaler()
    if task.kind == "regression":
        scaler = Scaler.of(data.labels[target][split.train])
    started = time.perf_counter()
    with _watching(progress, f"{model} on {target}", chosen.epochs) as watch:
        course = _learn(network, data, task, split, scaler, chosen, seed, checkpoint_dir, watch)
    seconds = time.perf_counter() - started
    trained = Predictor(network, task, scaler)
    report = _report(trained, data, split, seed, chosen, seconds) | course
    return Predictor(network, task, scaler, report)


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


def _learn(
    network: Model,
    data: LabelledLoRAs,
    task: Target,
    split: Split,
    scaler: Scaler,
    settings: Settings,
    seed: int,
    checkpoint_dir: str | Path | None,
    watch: Watch | None,
) -> dict[str, Any]:
    """Solve or descend; what is worth telling of it."""
    y = scaler.apply(data.labels[task.name])
    train = (_rows(data.batch, split.train), torch.from_numpy(y[split.train]))
    held = (_rows(data.batch, split.validation), torch.from_numpy(y[split.validation]))
    if isinstance(network, ClosedForm):
        network.to(settings.device)
        groups = _group_numbers(data, split.train, settings.device)
        network.fit(train[0], train[1], kind=task.kind, validation=held, groups=groups)
        return {"settings": {"device": settings.device}}
    checkpoint = None
    if checkpoint_dir is not None:
        checkpoint = (Path(checkpoint_dir), _identity(network, data, task, split, settings, seed))
    course = train_model(
        network,
        train,
        held,
        kind=task.kind,
        settings=settings,
        seed=seed,
        checkpoint=checkpoint,
        watch=watch,
    )
    return {
        "settings": settings.to_json(),
        "best_epoch": course.best_epoch,
        "epochs": len(course.epochs),
        "validation_loss": course.best_loss,
    }


def _rows(batch: LoRABatch, rows: Rows) -> LoRABatch:
    return batch.select(torch.from_numpy(rows))


def _group_numbers(data: LabelledLoRAs, rows: Rows, device: str) -> torch.Tensor | None:
    if data.groups is None:
        return None
    names = [data.groups[int(row)] for row in rows]
    numbers = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return torch.from_numpy(numbers).to(device)


def _identity(
    network: Model,
    data: LabelledLoRAs,
    task: Target,
    split: Split,
    settings: Settings,
    seed: int,
) -> str:
    """A digest of all that decides the result of a run."""
    facts = {
        "model": [network.name, network.rank, network.options],
        "signature": network.signature.to_json(),
        "data": data.digests([task.name])[task.name],
        "settings": settings.to_json(),
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in split.parts():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _report(
    predictor: Predictor,
    data: LabelledLoRAs,
    split: Split,
    seed: int,
    settings: Settings,
    seconds: float,
) -> dict[str, Any]:
    """Plain data: scores on validation and test, sizes, seconds, versions."""
    name = predictor.target.name
    metrics = {}
    for part, rows in (("validation", split.validation), ("test", split.test)):
        found = scores(
            predictor.target, data.labels[name][rows], predictor.outputs(_rows(data.batch, rows))
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
def _watching(show: bool, title: str, epochs: int) -> Iterator[Watch | None]:
    """A progress bar with the validation score, where one is wanted."""
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    shown = Console(stderr=True)  # standard output is for answers
    with Progress(*columns, TextColumn("{task.fields[score]}"), console=shown) as bar:
        task = bar.add_task(title, total=epochs, score="")

        def watch(epoch: Epoch) -> None:
            score = (
                f"validation {epoch.score_name} {epoch.score:.3f}, loss {epoch.validation_loss:.4f}"
            )
            bar.update(task, completed=epoch.epoch + 1, score=score)

        yield watch
