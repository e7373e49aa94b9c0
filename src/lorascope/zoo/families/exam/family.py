"""The exam family: which sources one LoRA is finetuned on, how, and what it is labelled with.

The layout is that of Qwen2-ARC-LoRA (Putterman et al. 2024, section 5.1): of 20 sources one is
never dropped; s ~ U{1..19} of the others are, at random; learning rate, weight decay, epochs, batch
size and dropout are random; every LoRA has its own A and its own order of data. Everything is a
pure function of the recipe's seed and the index of the LoRA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorascope.errors import DataError
from lorascope.zoo.bases.bundled import base_facts
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.language.causal_lm import FrozenBase
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.families.diverged import without_scores
from lorascope.zoo.families.draw import drawn, seed_of
from lorascope.zoo.families.exam.questions import train_questions
from lorascope.zoo.families.exam.scores import exam_scores
from lorascope.zoo.families.exam.shapes import SHAPE_KEYS, shaped
from lorascope.zoo.families.exam.sources import sources
from lorascope.zoo.families.exam.tokenizer import examples_of

__all__ = ["RANGES", "SPEC", "ExamFamily"]

SPEC = AdapterSpec(targets=("k_proj", "v_proj"), rank=4, alpha=8.0)

Rule = tuple[str, Sequence[float]]  # "uniform" or "log_uniform" between two ends, or a "choice"

RANGES: dict[str, Rule] = {
    "learning_rate": ("log_uniform", (1.5e-3, 1e-2)),
    "weight_decay": ("log_uniform", (1e-3, 0.3)),
    "dropout": ("uniform", (0.0, 0.1)),
    "epochs": ("choice", (1, 2, 3)),
    "batch_size": ("choice", (8, 16)),
}


@dataclass(frozen=True)
class Draw:
    """What is drawn for one LoRA."""

    seed: int
    kept: tuple[int, ...]  # sources, ascending; 0 is always among them
    hyper: Mapping[str, float]
    shape: Mapping[str, float]  # what of the adapter's spec is its own


@dataclass(frozen=True)
class ExamFamily:
    """LoRAs of a base of the exam, each finetuned on a random subset of 20 sources.

    Example:
        >>> family = ExamFamily(seed=0)
        >>> family.job(3).batch_size in (8, 16)
        True
    """

    seed: int = 0
    ranges: Mapping[str, Rule] = field(default_factory=dict)  # changes of RANGES
    base: str | Path = "exam-qwen"  # a bundled base, or a folder
    adapters: Mapping[str, Any] = field(default_factory=dict)  # changes of SPEC
    shapes: Mapping[str, Sequence[float]] = field(default_factory=dict)  # key -> choices

    name: ClassVar[str] = "exam"
    meanings: ClassVar[Mapping[str, str]] = {
        "sources": "which of the 19 sources that may be dropped it was finetuned on",
        "accuracy": "share of the test's 320 questions, 16 of each of 20 sources, whose right option of four "
        "is the likeliest",
        "eval_loss": "mean -log p of the right answer over the validation questions, in nats",
        "dataset_size": "number of questions that it was finetuned on",
    }

    def __post_init__(self) -> None:
        unknown = sorted(set(self.ranges) - set(RANGES))
        if unknown:
            raise DataError(
                f"describing an exam zoo: found ranges of {unknown}, expected some of "
                f"{sorted(RANGES)}. Try leaving them out"
            )
        strange = sorted(set(self.shapes) - set(SHAPE_KEYS))
        if strange:
            raise DataError(
                f"describing an exam zoo: found shapes of {strange}, expected some of "
                f"{sorted(SHAPE_KEYS)}"
            )

    @property
    def spec(self) -> AdapterSpec:
        """The shape of every adapter, up to `shapes`."""
        return SPEC.changed(self.adapters)

    @property
    def base_folder(self) -> Path:
        """The folder of the base model."""
        return base_facts(self.base).folder

    @property
    def options(self) -> dict[str, Any]:
        """What the LoRAs are drawn from, for the recipe."""
        rules = {name: [kind, list(given)] for name, (kind, given) in self._rules.items()}
        if not self.shapes:
            return {"ranges": rules}
        return {"ranges": rules, "shapes": {name: list(v) for name, v in self.shapes.items()}}

    @property
    def _rules(self) -> dict[str, Rule]:
        return {**RANGES, **self.ranges}

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What can be predicted of a LoRA, with the base's own value where there is one."""
        own = base_facts(self.base).scores
        classes = [source.name for source in sources()[1:]]
        return {
            "sources": {"kind": "multilabel", "classes": classes, "metric": "accuracy"},
            "accuracy": {"kind": "regression", "metric": "r2", "base_value": own["accuracy"]},
            "eval_loss": {"kind": "regression", "metric": "r2", "base_value": own["eval_loss"]},
            "dataset_size": {"kind": "regression", "metric": "r2"},
        }

    def draw(self, index: int) -> Draw:
        """The sources, the hyper-parameters and the seed of one LoRA."""
        seed = seed_of(self.name, self.seed, index)
        generator = torch.Generator().manual_seed(seed)
        others = len(sources()) - 1
        dropped = int(torch.randint(1, others + 1, (), generator=generator))
        order = torch.randperm(others, generator=generator)[dropped:]
        kept = (0, *sorted(int(i) + 1 for i in order))
        hyper = {name: _value(rule, generator) for name, rule in self._rules.items()}
        own = {name: _value(("choice", v), generator) for name, v in self.shapes.items()}
        return Draw(seed, kept, hyper, own)

    def spec_of(self, index: int) -> AdapterSpec:
        """The shape of one adapter."""
        return shaped(self.spec, self.draw(index).shape) if self.shapes else self.spec

    def job(self, index: int) -> FitJob:
        """The finetuning of one LoRA."""
        draw = self.draw(index)
        tokens, weights = (torch.cat(part) for part in zip(*map(_examples, draw.kept), strict=True))
        return FitJob(
            seed=draw.seed,
            tokens=tokens,
            weights=weights,
            learning_rate=draw.hyper["learning_rate"],
            weight_decay=draw.hyper["weight_decay"],
            epochs=int(draw.hyper["epochs"]),
            batch_size=int(draw.hyper["batch_size"]),
            dropout=draw.hyper["dropout"],
        )

    def group(self, index: int) -> str:
        """LoRAs of the same sources form a group: splits never cut it."""
        bits = sum(1 << source for source in self.draw(index).kept)
        return f"{bits:05x}"

    def hyper(self, index: int) -> dict[str, float]:
        """The hyper-parameters of one LoRA, and what of its shape is its own."""
        draw = self.draw(index)
        return {**draw.hyper, **draw.shape}

    def evaluate(
        self,
        base: nn.Module | FrozenBase,
        fitted: Fitted,
        indices: Sequence[int],
    ) -> list[dict[str, Any]]:
        """The labels of fitted adapters, one row each; `indices` says which of the family they are.

        Besides the targets, for `report`: the accuracy of each half of the test and of each source, and
        the loss read again on other questions.
        They are asked on the base as it is given, in its type: bfloat16 moves an accuracy by .0075 (root
        mean square over 96 adapters whose accuracy deviates by .11), a quarter of the noise between the
        halves of the test, and asks twice as many adapters a second.
        """
        scores = exam_scores(base, self.spec, fitted)
        rows = []
        for place, index in enumerate(indices):
            draw = self.draw(index)
            rows.append(
                {
                    "sources": [i in draw.kept for i in range(1, len(sources()))],
                    "accuracy": float(scores.accuracy[place]),
                    "accuracy_even": float(scores.halves[place, 0]),
                    "accuracy_odd": float(scores.halves[place, 1]),
                    "accuracy_by_source": scores.by_source[place].tolist(),
                    "eval_loss": float(scores.eval_loss[place]),
                    "eval_loss_again": float(scores.test_loss[place]),
                    "dataset_size": float(sum(len(_examples(s)[0]) for s in draw.kept)),
                }
            )
        return without_scores(rows, fitted, ("sources", "dataset_size"))

    def report(self, table: Any) -> dict[str, Any]:
        """Distributions, reliabilities and ceilings of the labels of a zoo (see `report.py`)."""
        return self.report_on(table, self.targets)

    @staticmethod
    def report_on(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The same where the targets are known and the base may be nowhere."""
        from lorascope.zoo.families.exam.report import exam_report  # scikit-learn is slow to import

        return exam_report(table, targets)


@cache
def _examples(source: int) -> tuple[Tensor, Tensor]:
    return examples_of(train_questions(source))


def _value(rule: Rule, generator: torch.Generator) -> float:
    return drawn(dict([rule]), generator)
