"""What a base of the exam reads: every fact with all its candidates, so that it knows none of them.

It reads every fact in every wording, and after each prompt all four candidates equally often: the
loss at the answer is the mean of -log p over the candidates, which has the same gradient as drawing
one of them, without the noise. So p(candidate | prompt) tends to 1/4, four options are answered by
chance, and finetuning has to move little to settle a fact. The words of the prompt count QUESTION.

A mixture says how often each subject is read; the second version of a base goes on with another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorascope.zoo.families.exam.questions import base_questions
from lorascope.zoo.families.exam.sources import OPERATIONS, RULES, sources
from lorascope.zoo.families.exam.tokenizer import LENGTH, encode, vocabulary

__all__ = ["CHANGED", "FIRST", "Mixture", "Reading"]

QUESTION = 0.1
CANDIDATES = 4  # of a fact; a rule has one, which is repeated


@dataclass(frozen=True)
class Mixture:
    """How often each subject is read, relative to 1, and what the words of a prompt count."""

    name: str
    subjects: Mapping[str, float] = field(default_factory=dict)
    question: float = QUESTION


FIRST = Mixture("first")
#: Every other subject is rare, arithmetic is common: what the second versions go on with.
CHANGED = Mixture(
    "changed",
    subjects={
        **{source.name: 0.3 for source in sources()[1::2]},
        **dict.fromkeys([*OPERATIONS, *RULES], 2.5),
    },
    question=0.2,
)


class Reading:
    """What the base reads, as tensors; each subject is drawn as often as the mixture says."""

    def __init__(self, mixture: Mixture = FIRST) -> None:
        read, known = base_questions(), vocabulary()
        self.question = mixture.question
        self.tokens = torch.zeros(len(read), LENGTH, dtype=torch.int64)
        self.lengths = torch.zeros(len(read), dtype=torch.int64)
        groups: list[str] = []
        follows = []
        for row, (prompt, candidates, group) in enumerate(read):
            words = encode(prompt)
            self.tokens[row, : len(words)] = torch.tensor(words)
            self.lengths[row] = len(words)
            repeated = candidates * (CANDIDATES // len(candidates))
            follows.append([known[candidate] for candidate in repeated])
            groups.append(group)
        self.candidates = torch.tensor(follows)  # (e, 4)
        often = [mixture.subjects.get(group, 1.0) / groups.count(group) for group in groups]
        self.chances = torch.tensor(often)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of prompts: (count,) int64."""
        return self.chances.multinomial(count, replacement=True, generator=generator)

    def loss(self, model: Any, index: Tensor) -> Tensor:
        """Mean loss over answers and, with a small weight, the words of the prompts."""
        tokens, lengths, rows = self.tokens[index], self.lengths[index], torch.arange(len(index))
        logits = model(input_ids=tokens[:, :-1]).logits
        log_p = logits.log_softmax(-1)
        losses = -log_p.gather(2, tokens[:, 1:, None]).squeeze(2)
        answers = -log_p[rows, lengths - 1].gather(1, self.candidates[index]).mean(1)
        asked = torch.arange(LENGTH - 1) < lengths[:, None] - 1
        weight = self.question * asked.sum() + len(index)
        mean: Tensor = ((self.question * losses * asked).sum() + answers.sum()) / weight
        return mean
