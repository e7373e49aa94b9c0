"""What one adapter is finetuned on and what it is asked afterwards: plain values, no training.

A `FitJob` holds everything that determines one adapter: grouped with anything, the result is the
same. A `ChoiceSet` holds the questions of an evaluation; the options of a question share its prefix.

    loss of a batch = sum(weights * cross_entropy) / sum(weights)
    steps           = epochs * ceil(examples / batch_size)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.errors import DataError

__all__ = ["ChoiceSet", "FitJob"]


@dataclass(frozen=True, eq=False)
class FitJob:
    """Everything that determines one adapter.

    `seed` draws A (uniform as in PEFT), the order of the data and the dropout masks; B starts at 0.
    The learning rate rises linearly over `warmup` steps and falls linearly to 0 over the rest
    (transformers' linear schedule); AdamW with betas (.9, .999), eps 1e-8; the gradient of the
    adapter is clipped to `clip_norm`.
    """

    seed: int
    tokens: Tensor  # (examples, length) int64, padded at the right
    weights: Tensor  # (examples, length) float32: of the loss at predicting this token; 0 on pads
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    dropout: float
    clip_norm: float = 1.0
    warmup: int = 0

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise DataError(f"making the finetuning job of seed {self.seed}: {problem}")

    def _problem(self) -> str:
        shape = tuple(self.tokens.shape)
        if len(shape) != 2 or tuple(self.weights.shape) != shape or 0 in shape or shape[1] < 2:
            return (
                f"found tokens {shape} and weights {tuple(self.weights.shape)}, expected two "
                "(examples, length) tensors with an example and two tokens at least"
            )
        if self.tokens.dtype != torch.int64 or self.weights.dtype != torch.float32:
            return (
                f"found tokens of {self.tokens.dtype} and weights of {self.weights.dtype}, "
                "expected int64 and float32. Try .long() and .float()"
            )
        if bool((self.weights[:, 0] != 0).any()):
            return "the first token has a weight, but nothing predicts it. Try weights[:, 0] = 0"
        if bool((self.weights.sum(1) <= 0).any()) or bool((self.weights < 0).any()):
            return "every example needs weights >= 0 with a positive sum. Try leaving it out"
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.dropout < 1:
            return (
                f"found epochs {self.epochs}, batch_size {self.batch_size}, dropout "
                f"{self.dropout}, expected at least 1, at least 1 and [0, 1)"
            )
        return ""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch; the last may be short."""
        return math.ceil(self.tokens.shape[0] / self.batch_size)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True, eq=False)
class ChoiceSet:
    """Multiple-choice questions: the options of a question share its prefix.

    Prefixes and options are padded at the right (any token id will do as padding).
    """

    prefixes: Tensor  # (q, p) int64
    prefix_lengths: Tensor  # (q,) int64, at least 1
    options: Tensor  # (q, choices, o) int64
    option_lengths: Tensor  # (q, choices) int64, at least 1
    answers: Tensor  # (q,) int64: the index of the right option

    def __post_init__(self) -> None:
        q, choices, o = self.options.shape
        expected = {
            "prefixes": (q, self.prefixes.shape[-1]),
            "prefix_lengths": (q,),
            "option_lengths": (q, choices),
            "answers": (q,),
        }
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise DataError(
                    f"making a set of {q} questions with {choices} options: {name} has shape "
                    f"{found}, expected {shape}"
                )
        lengths = ((self.prefix_lengths, self.prefixes.shape[1]), (self.option_lengths, o))
        if any(bool(((n < 1) | (n > longest)).any()) for n, longest in lengths):
            raise DataError(
                f"making a set of {q} questions: lengths must lie in 1..{self.prefixes.shape[1]} "
                f"for prefixes and 1..{o} for options. Try counting the tokens without padding"
            )

    def __len__(self) -> int:
        return int(self.answers.shape[0])
