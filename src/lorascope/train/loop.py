"""Training by gradients: AdamW on minibatches from memory, stopped by the validation loss.

    rate(step) = learning_rate * min((step + 1) / warmup steps, (1 + cos(pi * progress)) / 2)

What a model computes without weights (`features`) is computed once; minibatches are gathered from it. The
result depends on the data, the settings and the seed only: a run that is killed and resumed from its
checkpoint ends with the same weights. Nothing here knows names of models, metrics or files of zoos.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lorascope.core.batch import LoRABatch
from lorascope.errors import TrainingError
from lorascope.models.model import Features, Model, select_features
from lorascope.predict.target import Kind
from lorascope.train.checkpoint import load_checkpoint, save_checkpoint
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
    devices = [torch.device(settings.device)] if settings.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        run = _Run(model.to(settings.device), train, validation, kind, settings, seed)
        run.resume(checkpoint)
        while not run.finished():
            run.epoch()
            if checkpoint is not None:
                save_checkpoint(*checkpoint, run.state())
            if watch is not None:
                watch(run.course.epochs[-1])
    run.restore_best()
    return run.course


class _Run:
    """The state of one training between its epochs."""

    def __init__(
        self,
        model: Model,
        train: Labelled,
        validation: Labelled,
        kind: Kind,
        settings: Settings,
        seed: int,
    ) -> None:
        self.model, self.kind, self.settings = model, kind, settings
        on_device = train[0].to(model.dtype, settings.device)
        model.prepare(on_device)
        self.inputs = self._features(on_device)
        self.y = train[1].to(settings.device, model.dtype)
        self.held_inputs = self._features(validation[0].to(model.dtype, settings.device))
        self.held_y = validation[1].to(settings.device, model.dtype)
        self.optimizer = _optimizer(model, settings)
        self.order = torch.Generator().manual_seed(seed)
        self.course = Course()
        self.best: dict[str, Tensor] = {}

    def _features(self, batch: LoRABatch) -> Features:
        self.model.check(batch)
        with torch.no_grad():
            return self.model.features(batch)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, math.ceil(len(self.y) / self.settings.batch_size))

    def finished(self) -> bool:
        done = len(self.course.epochs)
        waited = done - 1 - self.course.best_epoch if done else 0
        failed = done > 0 and not math.isfinite(self.course.epochs[-1].train_loss)
        return done >= self.settings.epochs or waited >= self.settings.patience or failed

    def epoch(self) -> None:
        """One pass over the training rows in a new order, then the validation loss."""
        self.model.train()
        number = len(self.course.epochs)
        step = number * self.steps_per_epoch
        losses = torch.zeros((), device=self.y.device)
        order = torch.randperm(len(self.y), generator=self.order)
        for rows in torch.split(order, self.settings.batch_size):
            losses += self._step(rows.to(self.y.device), step) * len(rows)
            step += 1
        loss, name, score = self._validate()
        self.course.epochs.append(Epoch(number, float(losses) / len(self.y), loss, name, score))
        if loss < self.course.best_loss:
            self.course.best_loss, self.course.best_epoch = loss, number
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _step(self, rows: Tensor, step: int) -> Tensor:
        total = self.settings.epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step, total)
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.kind, self._score(select_features(self.inputs, rows)), self.y[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def _score(self, features: Features) -> Tensor:
        low = self.settings.dtype == "bfloat16"
        with torch.autocast(self.y.device.type, dtype=torch.bfloat16, enabled=low):
            return self.model.score(features).to(self.y.dtype)

    def _validate(self) -> tuple[float, str, float]:
        self.model.eval()
        size = max(self.settings.batch_size, 256)
        with torch.no_grad():
            outputs = torch.cat(
                [
                    self._score(select_features(self.held_inputs, slice(i, i + size)))
                    for i in range(0, len(self.held_y), size)
                ]
            )
        loss = float(loss_of(self.kind, outputs, self.held_y))
        return loss if math.isfinite(loss) else math.inf, *_score_of(
            self.kind, outputs, self.held_y
        )

    def restore_best(self) -> None:
        if not self.best:
            last = self.course.epochs[-1] if self.course.epochs else None
            raise TrainingError(
                f"Training {self.model.name!r}: the validation loss was never finite (last epoch: {last}). "
                "Try a lower learning rate, float32, or inspect the LoRAs for NaN and huge values."
            )
        self.model.load_state_dict(self.best)
        self.model.eval()

    def state(self) -> dict[str, Any]:
        """All that `resume` needs, as tensors and plain data."""
        course = self.course
        on_gpu = self.y.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.y.device) if on_gpu else None,
            "best_epoch": course.best_epoch,
            "best_loss": course.best_loss,
            "epochs": [vars(epoch) for epoch in course.epochs],
        }

    def resume(self, checkpoint: tuple[Path, str] | None) -> None:
        """Go back to the last checkpoint, where there is one."""
        state = load_checkpoint(*checkpoint) if checkpoint is not None else None
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.best = {name: tensor.to(self.y.device) for name, tensor in state["best"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and self.y.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.y.device)
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.course = Course(state["best_epoch"], state["best_loss"], epochs)


def learning_rate(settings: Settings, step: int, total: int) -> float:
    """The rate at a step: linear warmup, then a cosine that reaches zero after the last step."""
    warmup = int(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def loss_of(kind: Kind, outputs: Tensor, y: Tensor) -> Tensor:
    """Mean squared error, binary or multi-class cross-entropy; outputs and y: (b, k)."""
    if kind == "regression":
        return F.mse_loss(outputs, y)
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(outputs, y)
    return F.cross_entropy(outputs, y.argmax(1))


def _score_of(kind: Kind, outputs: Tensor, y: Tensor) -> tuple[str, float]:
    """A score to watch: R^2 or accuracy on the validation rows (NaN where it does not exist)."""
    if kind == "regression":
        total = float(((y - y.mean()) ** 2).sum())
        return "r2", 1 - float(((outputs - y) ** 2).sum()) / total if total > 0 else math.nan
    if kind == "multilabel":
        return "accuracy", float(((outputs > 0) == (y > 0.5)).float().mean())
    return "accuracy", float((outputs.argmax(1) == y.argmax(1)).float().mean())


def _optimizer(model: Model, settings: Settings) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves biases, gains and other vectors alone."""
    weights = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate)
