"""Questions as the language engine takes them: examples to learn and options to choose from.

    example    prompt, then the right option; weight 1 on the option's tokens alone
    question   prompt, then each option by itself (options that a question lacks are marked)

An option follows its prompt after a space. The tokenizer is the base's own `tokenizer.json`, read by
the tokenizers library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from lorascope.errors import DataError, FileError, MissingExtraError
from lorascope.zoo.engine.language.jobs import ChoiceSet

__all__ = ["Asked", "choices_of", "examples_of", "fitting", "load_tokenizer"]


Q = TypeVar("Q", bound="Asked")


class Asked(Protocol):
    """What a question has."""

    @property
    def prompt(self) -> str:
        """What stands before an option."""

    @property
    def options(self) -> Sequence[str]:
        """What may follow."""

    @property
    def answer(self) -> int:
        """The place of the right option."""


def load_tokenizer(base: Path) -> Any:
    """The tokenizer of a base's folder.

    Raises:
        FileError: there is none, or it cannot be read.
        MissingExtraError: tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as missing:
        raise MissingExtraError("tokenizers", "zoo", "reading a base's tokenizer") from missing
    file = base / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as problem:  # the library raises plain Exception
        raise FileError(
            f"reading the tokenizer {file}: {problem}. Expected tokenizer.json beside the weights. Try "
            "the whole folder of the base, as save_pretrained or the Hub has it"
        ) from problem
    tokenizer.no_padding()  # a file holds what whoever saved it last had asked for
    tokenizer.no_truncation()
    return tokenizer


def parts_of(question: Asked, tokenizer: Any) -> tuple[list[int], list[list[int]]]:
    """Token ids of the prompt (with what the tokenizer begins with) and of each option."""
    prompt = tokenizer.encode(question.prompt).ids
    options = [
        tokenizer.encode(f" {text}", add_special_tokens=False).ids for text in question.options
    ]
    return prompt, options


def fitting(questions: Sequence[Q], tokenizer: Any, longest: int) -> list[Q]:
    """The questions that have at most so many tokens with every option."""

    def length(question: Asked) -> int:
        prompt, options = parts_of(question, tokenizer)
        return len(prompt) + max(map(len, options))

    return [question for question in questions if length(question) <= longest]


def examples_of(questions: Sequence[Asked], tokenizer: Any) -> tuple[Tensor, Tensor]:
    """What is learned: tokens (e, t) int64, padded at the right; weights (e, t) float32.

    Raises:
        DataError: there are no questions.
    """
    rows = []
    for question in questions:
        prompt, options = parts_of(question, tokenizer)
        rows.append((prompt, options[question.answer]))
    if not rows:
        raise DataError(
            "making examples: found no questions to learn. Try others, or a larger 'longest'"
        )
    width = max(len(prompt) + len(option) for prompt, option in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    weights = torch.zeros(len(rows), width)
    for i, (prompt, option) in enumerate(rows):
        end = len(prompt) + len(option)
        tokens[i, :end] = torch.tensor(prompt + option)
        weights[i, len(prompt) : end] = 1
    return tokens, weights


def choices_of(questions: Sequence[Asked], tokenizer: Any) -> tuple[ChoiceSet, Tensor]:
    """What is asked, and which options a question really has: ChoiceSet, (q, options) bool."""
    parts = [parts_of(question, tokenizer) for question in questions]
    most = max(len(options) for _, options in parts)
    width = max(len(prompt) for prompt, _ in parts)
    long = max(len(option) for _, options in parts for option in options)
    prefixes = torch.zeros(len(parts), width, dtype=torch.int64)
    options = torch.zeros(len(parts), most, long, dtype=torch.int64)
    lengths = torch.ones(len(parts), most, dtype=torch.int64)
    for i, (prompt, texts) in enumerate(parts):
        prefixes[i, : len(prompt)] = torch.tensor(prompt)
        for k, text in enumerate(texts):
            options[i, k, : len(text)] = torch.tensor(text)
            lengths[i, k] = len(text)
    counts = torch.tensor([len(texts) for _, texts in parts])
    prompts = torch.tensor([len(prompt) for prompt, _ in parts])
    answers = torch.tensor([question.answer for question in questions])
    asked = ChoiceSet(prefixes, prompts, options, lengths, answers)
    return asked, torch.arange(most) < counts[:, None]
