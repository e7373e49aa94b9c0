"""The scores, against transformers question by question."""

import copy

import pytest
import torch

from lorascope.zoo.families.exam.family import SPEC
from lorascope.zoo.families.exam.questions import exam_questions, validation_questions
from lorascope.zoo.families.exam.scores import exam_scores
from lorascope.zoo.families.exam.tokenizer import encode, vocabulary


def merged(base, fitted, place):
    """The base with one adapter's update added to its weights."""
    model = copy.deepcopy(base)
    for name, layer in fitted.to_lora(place).layers.items():
        model.get_submodule(name).weight.data += layer.dense()
    return model


@torch.no_grad()
def log_p(model, question):
    """Log-probabilities of the options, one question at a time and without padding."""
    logits = model(torch.tensor([encode(question.prompt)])).logits[0, -1]
    known = vocabulary()
    return logits.log_softmax(-1)[[known[option] for option in question.options]]


def slow_scores(model):
    right = [int(log_p(model, q).argmax()) == q.answer for q in exam_questions()]
    asked = (validation_questions(), exam_questions())
    losses = [[-float(log_p(model, q)[q.answer]) for q in questions] for questions in asked]
    return torch.tensor(right).double(), [sum(each) / len(each) for each in losses]


@pytest.mark.parametrize("place", [None, 1])
def test_scores_are_those_of_transformers(exam_base, three_fitted, place):
    fitted = None if place is None else three_fitted
    scores = exam_scores(exam_base, SPEC, fitted)
    row = place or 0
    model = exam_base if place is None else merged(exam_base, three_fitted, place)
    right, (loss, again) = slow_scores(model)
    assert float(scores.eval_loss[row]) == pytest.approx(loss, abs=1e-5)
    assert float(scores.test_loss[row]) == pytest.approx(again, abs=1e-5)
    assert float(scores.accuracy[row]) == pytest.approx(float(right.mean()))
    for half in (0, 1):
        mine = torch.tensor([q.half == half for q in exam_questions()])
        assert float(scores.halves[row, half]) == pytest.approx(float(right[mine].mean()))
    for source in (0, 7, 19):
        mine = torch.tensor([q.source == source for q in exam_questions()])
        assert float(scores.by_source[row, source]) == pytest.approx(float(right[mine].mean()))


def test_the_base_has_one_row_and_sources_weigh_alike(exam_base):
    scores = exam_scores(exam_base, SPEC, None)
    assert scores.accuracy.shape == scores.eval_loss.shape == (1,)
    assert scores.halves.shape == (1, 2)
    assert float(scores.by_source.mean()) == pytest.approx(float(scores.accuracy))
