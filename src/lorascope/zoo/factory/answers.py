"""What some LoRAs of an exam zoo answer beside the base alone: a table, by plain transformers and peft.

For each LoRA the first test question of two sources that it was finetuned on and of two that it was not: no
answer is looked at to choose them.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lorascope.errors import DataError
from lorascope.io.shards import Zoo
from lorascope.io.write import write_lora
from lorascope.zoo.factory.restore import loras_with_families
from lorascope.zoo.families.exam.by_hand import adapter_likelihoods, exam_base, option_likelihoods
from lorascope.zoo.families.exam.family import ExamFamily
from lorascope.zoo.families.exam.questions import exam_questions
from lorascope.zoo.families.exam.sources import sources

__all__ = ["answer_table"]

EACH = 2  # questions of sources with, and as many without
HEAD = """| LoRA | question | of | right | the base says | with the LoRA |
| :-- | :-- | :-- | :-- | :-- | :-- |"""


def answer_table(zoo: Zoo, rows: Sequence[int], *, base: str | Path | None = None) -> str:
    """A table of Markdown: questions, what the base answers and what it answers with the LoRA.

    Behind an answer stands its probability among the four options.

    Args:
        rows: places in the index.
        base: a folder or the name of a bundled base; by default the bundled one that the recipe names.

    Raises:
        DataError: the zoo is not of the exam, or not of this base.
        MissingExtraError: transformers or peft is not installed.
    """
    lines = [HEAD]
    for lora, family, index, identity in loras_with_families(zoo, rows, base):
        if not isinstance(family, ExamFamily):
            raise DataError(
                f"Asking LoRAs of {zoo.path}: they are of the family {family.name!r}, which answers no "
                "questions. Expected a zoo of the exam."
            )
        model = exam_base(family.base)
        before = option_likelihoods(model)
        with tempfile.TemporaryDirectory() as folder:
            written = write_lora(lora, Path(folder) / "adapter")
            after = adapter_likelihoods(model, written)
        lines += _lines(identity, family.draw(index).kept, before, after)
    return "\n".join(lines)


def chosen(identity: int, kept: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Places of test questions, and whether the LoRA was finetuned on their source."""
    asked = exam_questions()
    others = [source for source in range(len(sources())) if source not in kept]
    for mine, group in ((True, kept), (False, others)):
        count = min(EACH, len(group))
        for k in range(count):  # which come first differs from LoRA to LoRA
            source = group[(identity + k * len(group) // count) % len(group)]
            yield next(i for i, q in enumerate(asked) if q.source == source), mine


def _lines(identity: int, kept: Sequence[int], before: Tensor, after: Tensor) -> Iterator[str]:
    asked = exam_questions()
    for place, mine in chosen(identity, kept):
        question = asked[place]
        source = sources()[question.source].name + ("" if mine else " (not finetuned on)")
        cells = [str(identity), question.prompt, source, question.options[question.answer]]
        cells += [_said(question.options, likelihoods[place]) for likelihoods in (before, after)]
        yield "| " + " | ".join(cells) + " |"


def _said(options: Sequence[str], likelihoods: Tensor) -> str:
    """The likeliest option and its share: likelihoods (4,) are logarithms."""
    shares = torch.softmax(likelihoods, 0)
    best = int(shares.argmax())
    return f"{options[best]} {float(shares[best]):.2f}"
