"""The words of the exam as numbers: one token a word, known beforehand.

A sequence is `<bos>`, the words of the prompt, the answer (one word), `<pad>` up to LENGTH. The same
tokenizer is written beside the base in transformers' format, so that a base and an adapter can be
used by hand: load it as `PreTrainedTokenizerFast` (transformers' `AutoTokenizer` takes Qwen's own
byte-level tokenizer for every model of this architecture, whatever the folder says).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.engine.language.jobs import ChoiceSet
from lorascope.zoo.families.exam.questions import WORDINGS, Question, base_questions

__all__ = ["LENGTH", "choices_of", "encode", "examples_of", "vocabulary", "write_tokenizer"]

PAD, BOS, UNKNOWN = "<pad>", "<bos>", "<unk>"
LENGTH = 2 + max(len(text.split()) for texts in WORDINGS.values() for text in texts)


@cache
def vocabulary() -> dict[str, int]:
    """Every word and its number, special tokens first."""
    words = {
        word for prompt, follows, _ in base_questions() for word in (*prompt.split(), *follows)
    }
    return {word: i for i, word in enumerate([PAD, BOS, UNKNOWN, *sorted(words)])}


def encode(prompt: str) -> list[int]:
    """`<bos>` and the words of a prompt.

    Example:
        >>> encode("3 zib 5 =")[0]
        1
    """
    known = vocabulary()
    return [known[BOS], *(known.get(word, known[UNKNOWN]) for word in prompt.split())]


def prompts_of(questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Prompts and their lengths: (e, LENGTH - 1) int64, (e,) int64."""
    tokens = torch.zeros(len(questions), LENGTH - 1, dtype=torch.int64)
    lengths = torch.zeros(len(questions), dtype=torch.int64)
    for row, question in enumerate(questions):
        prompt = encode(question.prompt)
        tokens[row, : len(prompt)] = torch.tensor(prompt)
        lengths[row] = len(prompt)
    return tokens, lengths


def options_of(questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Options and the place of the right one: (e, 4) int64, (e,) int64."""
    known = vocabulary()
    options = torch.tensor([[known[option] for option in q.options] for q in questions])
    return options, torch.tensor([q.answer for q in questions])


def examples_of(questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Prompts followed by the truth, and weight 1 on the truth alone.

    Returns: tokens (e, LENGTH) int64, weights (e, LENGTH) float32.
    """
    prompts, lengths = prompts_of(questions)
    options, answers = options_of(questions)
    tokens = torch.cat((prompts, torch.zeros_like(prompts[:, :1])), 1)
    tokens.scatter_(1, lengths[:, None], options.gather(1, answers[:, None]))
    weights = torch.zeros(tokens.shape).scatter_(1, lengths[:, None], 1.0)
    return tokens, weights


def choices_of(questions: Sequence[Question]) -> ChoiceSet:
    """Questions as the engine asks them, the options of one token each."""
    prompts, lengths = prompts_of(questions)
    options, answers = options_of(questions)
    return ChoiceSet(prompts, lengths, options[..., None], torch.ones_like(options), answers)


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer in transformers' format.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", "writing the exam's tokenizer") from error
    words = vocabulary()
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, words[BOS])]
    )
    names = {"pad_token": PAD, "bos_token": BOS, "unk_token": UNKNOWN}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
