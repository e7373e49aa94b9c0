"""Training by gradients: AdamW on minibatches from memory, stopped by the validation loss.

    rate(step) = learning_rate * min((step + 1) / warmup steps, (1 + cos(pi * progress)) / 2)

What a model computes without weights (`features`) is computed once; minibatches are gathered from it. Several
targets may share a training (`parts`): each keeps the weights of the epoch that was best for it. The result
depends on the data, the settings and the seed only: a run that is killed and resumed from its checkpoint ends
with the same weights. Nothing here knows names of models, metrics or files of zoos.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.errors import TrainingError
from lorascope.models.model import Features, Model, select_features
from lorascope.predict.target import Kind
from lorascope.train.checkpoint import load_checkpoint, save_checkpoint
from lorascope.train.parts import Part, part_losses, score_of, total_loss
from lorascope.train.settings import Settings

Labelled = tuple[LoRABatch, Tensor]  # LoRAs and their y: (b, k)
#: Called after each epoch.
Watch = Callable[["Epoch"], None]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    epoch: int
    train_loss: float
    validation_loss: float
    score_name: str
    score: float


@dataclass
class Course:
    """How a training went: the best epoch, its validation loss, and all epochs."""

    best_epoch: int = -1
    best_loss: float = math.inf
    epochs: list[Epoch] = field(default_factory=list)


def train_model(
    model: Model,
    train: Labelled,
    validation: Labelled,
    *,
    kind: Kind,
    settings: Settings,
    seed: int,
    checkpoint: tuple[Path, str] | None = None,
    watch: Watch | None = None,
) -> Course:
    """Train in place; the model ends with the weights of its best epoch on validation.

    `checkpoint` is a folder and the identity of the run: with it, the run is saved after each epoch and
    resumed. Raises TrainingError when the loss is not finite before any epoch has ended well.
    """
    part = Part("", kind, slice(0, model.out_features))
    found = train_parts(
        model,
        train,
        validation,
        parts=[part],
        settings=settings,
        seed=seed,
        checkpoint=checkpoint,
        watch=watch,
    )
    model.load_state_dict(found[0].weights)
    model.eval()
    return found[0].course


def train_parts(
    model: Model,
    train: Labelled,
    validation: Labelled,
    *,
    parts: Sequence[Part],
    settings: Settings,
    seed: int,
    checkpoint: tuple[Path, str] | None = None,
    watch: Watch | None = None,
) -> list["Trained"]:
    """Train the targets of all parts together; for each the course and the weights of its best epoch.

    Labels that are missing are NaN. The training ends when no part has improved for `patience` epochs.
    Raises TrainingError as `train_model`.
    """
    devices = [torch.device(settings.device)] if settings.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        run = _Run(model.to(settings.device), train, validation, parts, settings, seed)
        run.resume(checkpoint)
        while not run.finished():
            epoch = run.epoch()
            if checkpoint is not None:
                save_checkpoint(*checkpoint, run.state())
            if watch is not None:
                watch(epoch)
    return run.trained()


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training came to for one part."""

    course: Course
    weights: dict[str, Tensor]


class _Run:
    """The state of one training between its epochs."""

    def __init__(
        self,
        model: Model,
        train: Labelled,
        validation: Labelled,
        parts: Sequence[Part],
        settings: Settings,
        seed: int,
    ) -> None:
        self.model, self.parts, self.settings = model, parts, settings
        on_device = train[0].to(model.dtype, settings.device)
        model.prepare(on_device)
        self.inputs = self._features(on_device)
        self.y = train[1].to(settings.device, model.dtype)
        self.held_inputs = self._features(validation[0].to(model.dtype, settings.device))
        self.held_y = validation[1].to(settings.device, model.dtype)
        self.optimizer = _optimizer(model, settings)
        self.order = torch.Generator().manual_seed(seed)
        self.courses = [Course() for _ in parts]
        self.best: list[dict[str, Tensor]] = [{} for _ in parts]

    def _features(self, batch: LoRABatch) -> Features:
        self.model.check(batch)
        with torch.no_grad():
            return self.model.features(batch)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, math.ceil(len(self.y) / self.settings.batch_size))

    @property
    def done(self) -> int:
        """How many epochs have ended."""
        return len(self.courses[0].epochs)

    def finished(self) -> bool:
        latest = max(course.best_epoch for course in self.courses)
        waited = self.done - 1 - latest if self.done else 0
        last = [course.epochs[-1].train_loss for course in self.courses] if self.done else []
        failed = not all(math.isfinite(loss) for loss in last)
        return self.done >= self.settings.epochs or waited >= self.settings.patience or failed

    def epoch(self) -> Epoch:
        """One pass over the training rows in a new order, then the validation losses; the mean of parts."""
        self.model.train()
        number = self.done
        step = number * self.steps_per_epoch
        loss = torch.zeros((), device=self.y.device)
        order = torch.randperm(len(self.y), generator=self.order)
        for rows in torch.split(order, self.settings.batch_size):
            loss += self._step(rows.to(self.y.device), step) * len(rows)
            step += 1
        train_loss = float(loss) / len(self.y)
        for index, found in enumerate(self._validate()):
            self._note(index, Epoch(number, train_loss, *found))
        return self._summary()

    def _note(self, index: int, epoch: Epoch) -> None:
        """Adds an epoch to a part's course, and keeps the weights where it is the best."""
        course = self.courses[index]
        course.epochs.append(epoch)
        if epoch.validation_loss < course.best_loss:
            course.best_loss, course.best_epoch = epoch.validation_loss, epoch.epoch
            self.best[index] = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _summary(self) -> Epoch:
        """The last epoch of the one part, or the mean of all in their units."""
        last = [course.epochs[-1] for course in self.courses]
        if len(last) == 1:
            return last[0]
        units = [part.unit for part in self.parts]
        loss = sum(x.validation_loss / unit for x, unit in zip(last, units, strict=True)) / len(
            last
        )
        return Epoch(last[0].epoch, last[0].train_loss, loss, "explained", 1 - loss)

    def _step(self, rows: Tensor, step: int) -> Tensor:
        total = self.settings.epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step, total)
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self._score(select_features(self.inputs, rows))
        loss = total_loss(self.parts, outputs, self.y[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def _score(self, features: Features) -> Tensor:
        low = self.settings.dtype == "bfloat16"
        with torch.autocast(self.y.device.type, dtype=torch.bfloat16, enabled=low):
            return self.model.score(features).to(self.y.dtype)

    def _validate(self) -> list[tuple[float, str, float]]:
        """For each part its validation loss, and a score with its name."""
        self.model.eval()
        size = max(self.settings.batch_size, 256)
        with torch.no_grad():
            outputs = torch.cat(
                [
                    self._score(select_features(self.held_inputs, slice(i, i + size)))
                    for i in range(0, len(self.held_y), size)
                ]
            )
            losses = part_losses(self.parts, outputs, self.held_y)
        found = []
        for part, loss in zip(self.parts, map(float, losses), strict=True):
            there = part.labelled(self.held_y)
            predicted, truth = (x[there][:, part.columns] for x in (outputs, self.held_y))
            finite = loss if math.isfinite(loss) else math.inf
            found.append((finite, *score_of(part.kind, predicted, truth)))
        return found

    def trained(self) -> list[Trained]:
        for course, best in zip(self.courses, self.best, strict=True):
            if not best:
                last = course.epochs[-1] if course.epochs else None
                raise TrainingError(
                    f"Training {self.model.name!r}: the validation loss was never finite (last epoch: "
                    f"{last}). Try a lower learning rate, float32, or inspect the LoRAs for NaN and huge "
                    "values."
                )
        return [Trained(c, best) for c, best in zip(self.courses, self.best, strict=True)]

    def state(self) -> dict[str, Any]:
        """All that `resume` needs, as tensors and plain data."""
        on_gpu = self.y.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.y.device) if on_gpu else None,
            "courses": [
                vars(course) | {"epochs": [vars(epoch) for epoch in course.epochs]}
                for course in self.courses
            ],
        }

    def resume(self, checkpoint: tuple[Path, str] | None) -> None:
        """Go back to the last checkpoint, where there is one."""
        state = load_checkpoint(*checkpoint) if checkpoint is not None else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.best = [
            {name: tensor.to(self.y.device) for name, tensor in best.items()}
            for best in state["best"]
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and self.y.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.y.device)
        self.courses = [
            Course(**(course | {"epochs": [Epoch(**epoch) for epoch in course["epochs"]]}))
            for course in state["courses"]
        ]


def learning_rate(settings: Settings, step: int, total: int) -> float:
    """The rate at a step: linear warmup, then a cosine that reaches zero after the last step."""
    warmup = int(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _optimizer(model: Model, settings: Settings) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves biases, gains and other vectors alone."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate)
