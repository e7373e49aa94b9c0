"""Learning: untrained models and the lessons of one or several targets -> trained models.

A model in closed form studies the LoRAs once and is solved for each target. A network of all outputs is
descended once, and taken apart into one model a target, each with the weights of its own best epoch.
Nothing here scores on test rows.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorascope.core.batch import LoRABatch
from lorascope.models.build import restrict
from lorascope.models.closed_form import ClosedForm, Labels
from lorascope.models.model import Model
from lorascope.predict.scaler import Scaler
from lorascope.predict.target import Target
from lorascope.train.beside import known_beside
from lorascope.train.data import LabelledLoRAs
from lorascope.train.loop import Watch, train_parts
from lorascope.train.parts import Part, with_units
from lorascope.train.settings import Settings
from lorascope.train.splits import Rows, Split

Array = NDArray[np.float64]
#: From a number of outputs to an untrained model.
Build = Callable[[int], Model]
#: A trained model, and what is worth telling of its training.
Learned = tuple[Model, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is to be learned of one target: its rows, its labels as a model learns them, NaN where missing."""

    target: Target
    split: Split
    scaler: Scaler
    y: Array  # (N, k)

    @classmethod
    def of(cls, data: LabelledLoRAs, name: str, split: Split) -> "Lesson":
        """The rows of a split that have a label, scaled on those for training. Raises as `Split.check`."""
        target, labels = data.target(name), data.labels[name]
        split = split.among(data.known(name)).check()
        scaler = Scaler.of(labels[split.train]) if target.kind == "regression" else Scaler()
        return cls(target, split, scaler, scaler.apply(labels))


def learn(
    build: Build,
    data: LabelledLoRAs,
    lessons: Sequence[Lesson],
    settings: Settings,
    seed: int,
    *,
    checkpoint_dir: str | Path | None = None,
    watch: Watch | None = None,
) -> list[Learned]:
    """One trained model for each lesson."""
    first = build(lessons[0].target.out_features if len(lessons) == 1 else 1)
    if isinstance(first, ClosedForm):
        return _solve(first, build, data, lessons, settings)
    return _descend(build, data, lessons, settings, seed, checkpoint_dir, watch)


def rows_of(lessons: Sequence[Lesson], part: str) -> Rows:
    """The rows of a part of the split, "train" or "validation", that any lesson has a label for."""
    return np.unique(np.concatenate([getattr(lesson.split, part) for lesson in lessons]))


def _solve(
    studied: ClosedForm,
    build: Build,
    data: LabelledLoRAs,
    lessons: Sequence[Lesson],
    settings: Settings,
) -> list[Learned]:
    """Studies the LoRAs of all lessons together, then solves for each."""
    device = settings.device
    studied.to(device)
    train, held = rows_of(lessons, "train"), rows_of(lessons, "validation")
    batch = select(data.batch, train)
    studied.check(batch)
    asked = studied.choose_by == "validation"
    with torch.no_grad():
        study = studied.study(batch, select(data.batch, held) if asked else None)
    learned: list[Learned] = []
    for lesson in lessons:
        model = build(lesson.target.out_features).to(device)
        assert isinstance(model, ClosedForm)
        model.adopt(studied)
        rows, there = lesson.split.train, lesson.split.validation
        labels = Labels(
            torch.from_numpy(lesson.y[rows]).to(device),
            lesson.target.kind,
            torch.from_numpy(np.searchsorted(train, rows)).to(device),
            group_numbers(data, rows, device),
            (
                torch.from_numpy(np.searchsorted(held, there)).to(device),
                torch.from_numpy(lesson.y[there]).to(device),
            )
            if asked
            else None,
            torch.from_numpy(known_beside(data, rows)).to(device) if model.reads_beside else None,
        )
        model.solve(study, labels)
        learned.append((model.eval(), {"settings": {"device": device}}))
    return learned


def _descend(
    build: Build,
    data: LabelledLoRAs,
    lessons: Sequence[Lesson],
    settings: Settings,
    seed: int,
    checkpoint_dir: str | Path | None,
    watch: Watch | None,
) -> list[Learned]:
    """Trains one network of all outputs, and takes it apart."""
    parts, start = [], 0
    for lesson in lessons:
        stop = start + lesson.target.out_features
        parts.append(Part(lesson.target.name, lesson.target.kind, slice(start, stop)))
        start = stop
    network = build(start)
    train, held = (
        (
            select(data.batch, rows),
            torch.from_numpy(np.concatenate([x.y for x in lessons], 1)[rows]),
        )
        for rows in (rows_of(lessons, "train"), rows_of(lessons, "validation"))
    )
    if len(parts) > 1:
        parts = with_units(parts, train[1])
    checkpoint = None
    if checkpoint_dir is not None:
        checkpoint = (Path(checkpoint_dir), _identity(network, data, lessons, settings, seed))
    found = train_parts(
        network,
        train,
        held,
        parts=parts,
        settings=settings,
        seed=seed,
        checkpoint=checkpoint,
        watch=watch,
    )
    learned = []
    for part, result in zip(parts, found, strict=True):
        network.load_state_dict(result.weights)
        model = network if len(parts) == 1 else restrict(network, part.columns)
        report = {
            "settings": settings.to_json(),
            "best_epoch": result.course.best_epoch,
            "epochs": len(result.course.epochs),
            "validation_loss": result.course.best_loss,
        }
        learned.append((model.eval(), report))
    return learned


def select(batch: LoRABatch, rows: Rows) -> LoRABatch:
    """The LoRAs at some rows."""
    return batch.select(torch.from_numpy(rows))


def group_numbers(data: LabelledLoRAs, rows: Rows, device: str) -> torch.Tensor | None:
    """One number for each group of the rows, None when nobody knows the groups."""
    if data.groups is None:
        return None
    names = [data.groups[int(row)] for row in rows]
    numbers = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return torch.from_numpy(numbers).to(device)


def _identity(
    network: Model,
    data: LabelledLoRAs,
    lessons: Sequence[Lesson],
    settings: Settings,
    seed: int,
) -> str:
    """A digest of all that decides the result of a run."""
    names = [lesson.target.name for lesson in lessons]
    digests = data.digests(names)
    facts = {
        "model": [network.name, network.rank, network.options],
        "signature": network.signature.to_json(),
        "data": [digests[name] for name in names],
        "settings": settings.to_json(),
        "seed": seed,
        "layout": "parts",  # of the checkpoint
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for lesson in lessons:
        for array in lesson.split.parts():
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
