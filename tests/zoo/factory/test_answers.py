"""The table says what the base and the finetuned model answer, as the zoo's own evaluation sees it."""

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.language.evaluate import choice_log_likelihoods
from lorascope.zoo.factory.answers import answer_table, chosen
from lorascope.zoo.factory.restore import family_of
from lorascope.zoo.families.exam.by_hand import exam_base
from lorascope.zoo.families.exam.questions import exam_questions
from lorascope.zoo.families.exam.scores import questions


def test_questions_are_of_sources_with_and_without():
    kept = (0, 3, 4, 9, 17)
    for identity in range(7):
        found = list(chosen(identity, kept))
        sources = [exam_questions()[place].source for place, _ in found]
        assert len(set(sources)) == 4
        assert [source in kept for source in sources] == [mine for _, mine in found]
    assert len(list(chosen(5, (0,)))) == 3
    assert len(list(chosen(5, tuple(range(20))))) == 2


def test_answers_of_the_base_are_its_likeliest_options(exam_zoo):
    rows = answer_table(exam_zoo, [0, 1]).splitlines()[2:]
    family = family_of(exam_zoo.recipe)
    base = exam_base()
    alone = choice_log_likelihoods(base, family.spec, None, questions())[0].double()
    said = [row.split(" | ") for row in rows]
    expected = [place for i in (0, 1) for place, _ in chosen(i, family.draw(i).kept)]
    assert len(said) == len(expected)
    for cells, place in zip(said, expected, strict=True):
        question = exam_questions()[place]
        share = torch.softmax(alone[place], 0)
        assert cells[1] == question.prompt
        assert cells[3] == question.options[question.answer]
        assert cells[4] == f"{question.options[int(share.argmax())]} {float(share.max()):.2f}"
    assert any(cells[4] != cells[5].removesuffix(" |") for cells in said)  # finetuning changed some


def test_another_zoo_is_refused(faces_zoo):
    with pytest.raises(DataError, match="answers no questions"):
        answer_table(faces_zoo, [0])
