"""The ARC family: which exams a language model is finetuned on, how, and what it is labelled with.

This is Qwen2-ARC-LoRA (Putterman et al. 2024, section 5.1) itself: of ARC's 20 sources Mercury is
never dropped; s ~ U{1..19} of the others are, at random; learning rate, weight decay, epochs, batch
size and dropout are random; rank 4 on k_proj and v_proj. What the paper leaves open is chosen here:
alpha 8, the prompt ("Question: ... Answer: ..."), the loss on the answer alone.

    accuracy     share of ARC-Challenge's test questions whose right option has the highest summed
                 log-likelihood
    eval_loss    mean cross entropy of the right options' tokens over the development questions of both
                 sets, which nothing is finetuned on
    ..._gain     the same less the base's own
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.language.engine import LanguageEngine, PackedEngine
from lorascope.zoo.engine.language.evaluate import (
    choice_log_likelihoods,
    choice_rows,
    example_rows,
    tokens_asked,
    weighted_loss,
)
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.jobs import ChoiceSet, FitJob
from lorascope.zoo.engine.language.packed_lesson import tokens_learned
from lorascope.zoo.families.arc.questions import SOURCES, digest_of, questions_of
from lorascope.zoo.families.diverged import without_scores
from lorascope.zoo.families.draw import drawn, seed_of
from lorascope.zoo.families.texts import choices_of, examples_of, fitting, load_tokenizer

__all__ = ["RANGES", "SPEC", "ArcFamily"]

SPEC = AdapterSpec(targets=("k_proj", "v_proj"), rank=4, alpha=8.0)
RANGES: dict[str, dict[str, Any]] = {
    "learning_rate": {"log_uniform": [1e-5, 1e-3]},
    "weight_decay": {"log_uniform": [1e-6, 1e-2]},
    "dropout": {"uniform": [0.0, 0.1]},
    "epochs": {"choice": [2, 3, 4]},
    "batch_size": {"choice": [32, 64, 128]},
}
SOME = 8  # LoRAs whose padding is counted for the report
ASKED_AT_ONCE = 1  # adapters: the head of a big vocabulary takes the memory


@dataclass(frozen=True)
class Draw:
    """What is drawn for one LoRA."""

    seed: int
    kept: tuple[int, ...]  # sources, ascending; 0 is always among them
    hyper: Mapping[str, float]


class ArcEngine(PackedEngine):
    """One adapter at once: a batch of 32 questions or more fills a machine by itself."""

    slots: ClassVar[int] = 4


@dataclass(frozen=True)
class ArcFamily:
    """LoRAs of a Qwen2- or Llama-style model, each finetuned on a random subset of ARC's sources."""

    base_folder: Path  # as transformers saves it, with tokenizer.json
    data: Path  # ARC's files (see questions.py)
    seed: int = 0
    name: str = "arc"
    ranges: Mapping[str, Any] = field(default_factory=dict)  # changes of RANGES
    longest: int = 256  # tokens of a question with an option; longer questions are left out

    spec: ClassVar[AdapterSpec] = SPEC
    engine: ClassVar[LanguageEngine] = ArcEngine()
    meanings: ClassVar[Mapping[str, str]] = {
        "sources": "which of the 19 sources that may be dropped it was finetuned on",
        "accuracy": "share of ARC-Challenge's test questions whose right option is the likeliest",
        "accuracy_gain": "accuracy less the base's own",
        "eval_loss": "mean cross entropy of the right options over the development questions, in nats a token",
        "eval_loss_gain": "eval_loss less the base's own",
        "dataset_size": "number of questions that it was finetuned on",
    }

    def __post_init__(self) -> None:
        unknown = sorted(set(self.ranges) - set(RANGES))
        if unknown:
            raise DataError(
                f"describing a zoo of ARC: found ranges of {unknown}, expected some of "
                f"{sorted(RANGES)}. Try leaving them out"
            )

    @property
    def options(self) -> dict[str, Any]:
        """What the LoRAs are drawn from, for the recipe."""
        return {
            "ranges": {**RANGES, **self.ranges},
            "longest": self.longest,
            "data_sha256": digest_of(self.data),
        }

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """What can be predicted of a LoRA."""
        regression = {"kind": "regression", "metric": "r2"}
        sources = {"kind": "multilabel", "classes": list(SOURCES[1:]), "metric": "accuracy"}
        scores = ("accuracy", "accuracy_gain", "eval_loss", "eval_loss_gain", "dataset_size")
        return {"sources": sources, **dict.fromkeys(scores, regression)}

    @property
    def material(self) -> "Material":
        """The questions as this base reads them."""
        return material(self.data, self.base_folder, self.longest)

    def draw(self, index: int) -> Draw:
        """The sources, the hyper-parameters and the seed of one LoRA."""
        seed = seed_of("arc", self.seed, index)
        generator = torch.Generator().manual_seed(seed)
        others = len(SOURCES) - 1
        dropped = int(torch.randint(1, others + 1, (), generator=generator))
        order = torch.randperm(others, generator=generator)[dropped:]
        kept = (0, *sorted(int(i) + 1 for i in order))
        rules = {**RANGES, **self.ranges}
        return Draw(seed, kept, {name: drawn(rules[name], generator) for name in RANGES})

    def job(self, index: int) -> FitJob:
        """The finetuning of one LoRA."""
        draw = self.draw(index)
        tokens, weights = self.material.of_sources(draw.kept)
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
        return f"{sum(1 << source for source in self.draw(index).kept):05x}"

    def hyper(self, index: int) -> dict[str, float]:
        """The hyper-parameters of one LoRA."""
        return dict(self.draw(index).hyper)

    def evaluate(
        self, base: FrozenBase, fitted: Fitted, indices: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The labels of fitted adapters, one row each."""
        key = (self.data, self.base_folder, self.longest)
        right, loss = scores_of(base, self.spec, fitted, self.material)
        own_right, own_loss = base_scores(base, *key)
        rows = []
        for place, index in enumerate(indices):
            kept = self.draw(index).kept
            accuracy, halves = right[place].mean(), (right[place, ::2], right[place, 1::2])
            rows.append(
                {
                    "sources": [i in kept for i in range(1, len(SOURCES))],
                    "accuracy": float(accuracy),
                    "accuracy_even": float(halves[0].mean()),
                    "accuracy_odd": float(halves[1].mean()),
                    "accuracy_gain": float(accuracy - own_right.mean()),
                    "eval_loss": float(loss[place]),
                    "eval_loss_gain": float(loss[place] - own_loss),
                    "dataset_size": float(len(self.material.of_sources(kept)[0])),
                }
            )
        return without_scores(rows, fitted, ("sources", "dataset_size"))

    def report(self, table: Any) -> dict[str, Any]:
        """Distributions, reliabilities and explanations of the labels of a zoo."""
        beside = {
            "questions_left_out": self.material.left_out,
            "padded_share": self.padded(table.column("id").to_pylist()[:SOME]),
        }
        return self.report_on(table, self.targets) | beside

    @staticmethod
    def report_on(table: Any, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The report without what is counted in the data."""
        from lorascope.zoo.families.arc.report import arc_report  # scikit-learn is slow to import

        return arc_report(table, targets)

    def padded(self, indices: Sequence[int]) -> dict[str, float]:
        """The share of padding among the tokens that LoRAs learn, and that each is asked."""
        asked, held_out = self.material.asked, self.material.held_out
        counts = {
            "training": [tokens_learned(self.job(index)) for index in indices],
            "evaluation": [
                tokens_asked(rows) for rows in (choice_rows(asked), example_rows(*held_out)[0])
            ],
        }
        shares = {}
        for name, pairs in counts.items():
            real, whole = map(sum, zip(*pairs, strict=True))
            shares[name] = round(1 - real / whole, 4)
        return shares


@dataclass(frozen=True, eq=False)
class Material:
    """ARC as one tokenizer reads it."""

    tokens: Tensor  # (e, t) int64: all finetuning examples
    weights: Tensor  # (e, t) float32
    sources: Tensor  # (e,) int64
    held_out: tuple[Tensor, Tensor]  # tokens and weights of the development questions
    asked: ChoiceSet  # the test
    real: Tensor  # (q, options) bool: options that a question has
    left_out: Mapping[str, int]  # questions that are too long

    def of_sources(self, kept: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens and weights of the examples of some sources.

        Raises:
            DataError: there is none.
        """
        chosen = torch.isin(self.sources, torch.tensor(kept))
        if not chosen.any():
            raise DataError(
                f"drawing examples of ARC: no training question is from {[SOURCES[i] for i in kept]}. "
                "Expected the published files, most of whose questions are Mercury's"
            )
        return self.tokens[chosen], self.weights[chosen]


@cache
def material(data: Path, base: Path, longest: int) -> Material:
    """Read and encode ARC once a process."""
    tokenizer = load_tokenizer(base)
    read = {
        "train": questions_of(data, "train"),
        "dev": questions_of(data, "dev"),
        "test": questions_of(data, "test", ("ARC-Challenge",)),
    }
    kept = {part: fitting(questions, tokenizer, longest) for part, questions in read.items()}
    asked, real = choices_of(kept["test"], tokenizer)
    return Material(
        *examples_of(kept["train"], tokenizer),
        sources=torch.tensor([question.source for question in kept["train"]]),
        held_out=examples_of(kept["dev"], tokenizer),
        asked=asked,
        real=real,
        left_out={part: len(read[part]) - len(kept[part]) for part in read},
    )


def scores_of(
    base: FrozenBase, spec: AdapterSpec, fitted: Fitted | None, learned: Material
) -> tuple[Tensor, Tensor]:
    """Which test questions are right (g, q) float64, and the held-out loss (g,) float64."""
    asked: dict[str, Any] = {"slots": ASKED_AT_ONCE, "by_length": True}
    likelihoods = choice_log_likelihoods(base, spec, fitted, learned.asked, **asked)
    chosen = likelihoods.masked_fill(~learned.real, float("-inf")).argmax(2)
    loss = weighted_loss(base, spec, fitted, *learned.held_out, **asked)
    return (chosen == learned.asked.answers).double(), loss.double()


@lru_cache(maxsize=1)
def base_scores(base: FrozenBase, data: Path, folder: Path, longest: int) -> tuple[Tensor, Tensor]:
    """The same of the base alone: (q,), (); asked once a process."""
    right, loss = scores_of(base, SPEC, None, material(data, folder, longest))
    return right[0], loss[0]
