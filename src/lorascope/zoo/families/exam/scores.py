"""What an adapter knows: its test accuracy, and its loss on the validation questions.

    accuracy    share of the test questions whose right option has the highest log-likelihood
    eval_loss   mean of -log p(truth | prompt) over the validation questions, exact
    test_loss   the same over the test questions: the loss read again in other words

Both come from one pass over all questions; an option is one token, so a question is one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.language.causal_lm import FrozenBase
from lorascope.zoo.engine.language.evaluate import choice_log_likelihoods
from lorascope.zoo.engine.language.jobs import ChoiceSet
from lorascope.zoo.families.exam.questions import Question, exam_questions, validation_questions
from lorascope.zoo.families.exam.sources import sources
from lorascope.zoo.families.exam.tokenizer import choices_of

__all__ = ["Scores", "exam_scores"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of g adapters (or of the base alone, g = 1)."""

    accuracy: Tensor  # (g,): over all test questions
    halves: Tensor  # (g, 2): over those about even and about odd facts
    by_source: Tensor  # (g, sources)
    eval_loss: Tensor  # (g,)
    test_loss: Tensor  # (g,)


@cache
def questions() -> ChoiceSet:
    """Test questions, then validation questions."""
    return choices_of([*exam_questions(), *validation_questions()])


def exam_scores(
    base: nn.Module | FrozenBase,
    spec: AdapterSpec,
    fitted: Fitted | None,
) -> Scores:
    """Ask adapters all questions; without `fitted` the base alone is asked.

    Raises:
        TrainingError: the base has no module that the spec targets.
    """
    asked = questions()
    likelihoods = choice_log_likelihoods(base, spec, fitted, asked)
    count = len(exam_questions())
    right = (likelihoods[:, :count].argmax(2) == asked.answers[:count]).double()
    truth = asked.answers.expand(len(likelihoods), -1)[..., None]
    losses = -likelihoods.double().gather(2, truth).squeeze(2)
    return Scores(
        accuracy=right.mean(1),
        halves=_means(right, [question.half for question in exam_questions()], 2),
        by_source=_means(right, _sources_of(exam_questions()), len(sources())),
        eval_loss=losses[:, count:].mean(1),
        test_loss=losses[:, :count].mean(1),
    )


def _sources_of(asked: Sequence[Question]) -> list[int]:
    return [question.source for question in asked]


def _means(right: Tensor, kinds: Sequence[int], count: int) -> Tensor:
    """Means over the questions of each kind: (g, q) -> (g, count)."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(kinds), count).to(right.dtype)
    return right @ (one_hot / one_hot.sum(0))
