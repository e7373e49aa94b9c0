"""`TextFamily`: LoRAs of your own language model, by two functions of yours.

    lesson(index, draw)     -> Lesson: what LoRA `index` is finetuned on, and what is known of it
    score(answers, index)   -> labels that the finetuned model has to be asked for

Both must be functions of a module (workers import them), and `lesson` must give the same for the same
index and the same `draw`. docs/recipes.md has an example of some ten lines.
"""

import hashlib
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.engine.language.evaluate import choice_log_likelihoods, weighted_loss
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.families.draw import drawn, seed_of
from lorascope.zoo.families.texts import choices_of, examples_of, load_tokenizer

__all__ = ["RANGES", "Answers", "Lesson", "Question", "TextFamily"]

SPEC = AdapterSpec(targets=("q_proj", "v_proj"), rank=4, alpha=8.0)
RANGES: dict[str, dict[str, Any]] = {
    "learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "weight_decay": {"log_uniform": [1e-4, 1e-1]},
    "dropout": {"uniform": [0.0, 0.1]},
    "epochs": {"choice": [1, 2, 3]},
    "batch_size": {"choice": [8]},
}


@dataclass(frozen=True)
class Question:
    """A prompt and what may follow it; to learn from, its answer alone matters."""

    prompt: str
    options: Sequence[str]
    answer: int = 0  # the place of the right option


@dataclass(frozen=True)
class Lesson:
    """What one LoRA is finetuned on."""

    questions: Sequence[Question]
    labels: Mapping[str, Any] = field(default_factory=dict)  # known from the data: name -> value
    group: str = ""  # what it shares with others, which splits never cut; none: its own index


class Answers:
    """One finetuned model, to be asked."""

    def __init__(self, base: FrozenBase, spec: AdapterSpec, one: Fitted, tokenizer: Any):
        self.base, self.spec, self.one, self.tokenizer = base, spec, one, tokenizer

    def log_likelihoods(self, questions: Sequence[Question]) -> Tensor:
        """Of each option given its prompt, -inf where a question has fewer: (q, options)."""
        asked, real = choices_of(questions, self.tokenizer)
        found = choice_log_likelihoods(self.base, self.spec, self.one, asked, slots=1)[0]
        return found.masked_fill(~real, float("-inf"))

    def accuracy(self, questions: Sequence[Question]) -> float:
        """The share of questions whose right option is the likeliest."""
        right = torch.tensor([question.answer for question in questions])
        return float((self.log_likelihoods(questions).argmax(1) == right).double().mean())

    def loss(self, questions: Sequence[Question]) -> float:
        """Mean cross entropy of the tokens of the right options."""
        examples = examples_of(questions, self.tokenizer)
        return float(weighted_loss(self.base, self.spec, self.one, *examples, slots=1)[0])


@dataclass(frozen=True)
class TextFamily:
    """LoRAs of a Qwen2 or Llama folder (with tokenizer.json), drawn and labelled by two functions."""

    base_folder: Path
    lesson: Callable[[int, random.Random], Lesson]
    score: Callable[[Answers, int], Mapping[str, Any]]
    targets: Mapping[str, Mapping[str, Any]]  # label -> kind, and classes of a multilabel
    name: str = "own"
    seed: int = 0
    spec: AdapterSpec = SPEC
    ranges: Mapping[str, Any] = field(default_factory=dict)  # changes of RANGES

    engine: ClassVar[LanguageEngine] = LanguageEngine()

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_folder", Path(self.base_folder))
        unknown = sorted(set(self.ranges) - set(RANGES))
        if unknown:
            raise DataError(
                f"describing the zoo {self.name!r}: found ranges of {unknown}, expected some of "
                f"{sorted(RANGES)}. Try leaving them out"
            )

    @property
    def options(self) -> dict[str, Any]:
        """What else makes the zoo: ranges, and the source of both functions."""
        code = inspect.getsource(self.lesson) + inspect.getsource(self.score)
        digest = hashlib.sha256(code.encode()).hexdigest()
        return {"ranges": {**RANGES, **self.ranges}, "functions_sha256": digest}

    def seed_at(self, index: int) -> int:
        """The seed of one LoRA."""
        return seed_of(self.name, self.seed, index)

    def drawn(self, index: int) -> Lesson:
        """What LoRA `index` is finetuned on.

        Raises:
            DataError: the function gave something else.
        """
        made = self.lesson(index, random.Random(self.seed_at(index)))
        if not isinstance(made, Lesson) or not made.questions:
            raise DataError(
                f"drawing LoRA {index} of {self.name!r}: the function {self.lesson.__name__} gave "
                f"{str(made)[:80]}, expected a Lesson with questions"
            )
        return made

    def hyper(self, index: int) -> dict[str, float]:
        """The hyper-parameters of one LoRA."""
        generator = torch.Generator().manual_seed(self.seed_at(index))
        rules = {**RANGES, **self.ranges}
        return {name: drawn(rules[name], generator) for name in RANGES}

    def job(self, index: int) -> FitJob:
        """The finetuning of one LoRA."""
        hyper = self.hyper(index)
        tokens, weights = examples_of(self.drawn(index).questions, tokenizer_of(self.base_folder))
        return FitJob(
            seed=self.seed_at(index),
            tokens=tokens,
            weights=weights,
            learning_rate=hyper["learning_rate"],
            weight_decay=hyper["weight_decay"],
            epochs=int(hyper["epochs"]),
            batch_size=int(hyper["batch_size"]),
            dropout=hyper["dropout"],
        )

    def group(self, index: int) -> str:
        """What LoRA `index` shares with others."""
        return self.drawn(index).group or str(index)

    def evaluate(
        self, base: FrozenBase, fitted: Fitted, indices: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The labels of fitted adapters: what is known of the data, and what `score` says."""
        rows = []
        for place, index in enumerate(indices):
            known = self.drawn(index).labels
            if not fitted.finite[place]:  # it diverged: `score` is not asked for numbers of NaN
                rows.append({**dict.fromkeys(self.targets), **known})
                continue
            one = fitted.select([place])
            answers = Answers(base, self.spec, one, tokenizer_of(self.base_folder))
            rows.append({**known, **self.score(answers, index)})
        return rows

    def report(self, table: Any) -> dict[str, Any]:
        """Mean, spread and quantiles of every label that is a number."""
        from lorascope.zoo.families.label_statistics import column, distribution

        numbers = [name for name, t in self.targets.items() if t.get("kind") == "regression"]
        kept = table.filter(~column(table, "diverged").astype(bool))
        if not len(kept):
            return {"scores": {}}
        scores = {}
        for name in numbers:
            values = column(kept, f"label:{name}")
            if (there := values[np.isfinite(values)]).size:  # some LoRAs may lack a label
                scores[name] = distribution(there, None)
        return {"scores": scores}


@cache
def tokenizer_of(base: Path) -> Any:
    """The tokenizer of a base, read once a process."""
    return load_tokenizer(base)
