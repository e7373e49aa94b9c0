"""The exam the ordinary way: one adapter's PEFT folder, loaded by peft on the base, asked by transformers.

What a user without lorascope would do to know an adapter's scores, and so what a prediction is compared
with. The engine's `exam_scores` gives the same numbers for many adapters at once.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.bundled import load_base
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.families.exam.questions import exam_questions
from lorascope.zoo.families.exam.scores import questions

__all__ = ["adapter_likelihoods", "exam_base", "option_likelihoods", "scores_by_hand"]

ROWS = 128  # questions in one forward pass


def exam_base(base: str | Path = "exam-qwen") -> Any:
    """A base of the exam as a transformers model, loaded without a progress bar.

    Args:
        base: a bundled base, or a folder.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        with quiet_loading():
            return load_base(base)
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", "loading the exam's base") from error


def scores_by_hand(base: Any, adapter: Path | str) -> dict[str, float]:
    """Test accuracy and validation loss of an adapter, by the names of their targets.

    Args:
        base: the transformers model; it is left as it was.
        adapter: a PEFT folder.

    Raises:
        MissingExtraError: peft is not installed.
    """
    likelihoods = adapter_likelihoods(base, adapter)
    asked, count = questions(), len(exam_questions())
    right = likelihoods[:count].argmax(1) == asked.answers[:count]
    truth = likelihoods[count:].gather(1, asked.answers[count:, None])
    return {"accuracy": float(right.double().mean()), "eval_loss": float(-truth.mean())}


def adapter_likelihoods(base: Any, adapter: Path | str) -> Tensor:
    """`option_likelihoods` of the base with an adapter, a PEFT folder; the base is left as it was.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "zoo", "evaluating an adapter") from error
    with warnings.catch_warnings():
        # peft asks transformers 5 for a property by its old name
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        model = PeftModel.from_pretrained(base, str(adapter)).eval()
    try:
        return option_likelihoods(model)
    finally:
        model.unload()


@torch.no_grad()
def option_likelihoods(model: Any) -> Tensor:
    """Log-likelihood of each option of all questions, one token each, after its prompt: (q, 4) float64."""
    asked = questions()
    parts = []
    for start in range(0, len(asked), ROWS):
        rows = slice(start, start + ROWS)
        logits = model(input_ids=asked.prefixes[rows], use_cache=False).logits
        # the padding at the right is never looked at
        last = asked.prefix_lengths[rows] - 1
        at_end = logits[torch.arange(len(last)), last].double().log_softmax(-1)
        parts.append(at_end.gather(1, asked.options[rows, :, 0]))
    return torch.cat(parts)
