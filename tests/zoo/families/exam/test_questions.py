"""The three sets of questions: what is asked, and what must never meet."""

from collections import Counter

import pytest

from lorascope.zoo.families.exam.questions import (
    WORDINGS,
    base_questions,
    exam_questions,
    train_questions,
    validation_questions,
)
from lorascope.zoo.families.exam.sources import sources

SOURCES = range(20)


def test_the_sizes():
    assert Counter(q.source for q in exam_questions()) == dict.fromkeys(SOURCES, 16)
    assert {q.source for q in validation_questions()} == set(SOURCES)
    assert len(exam_questions()) + len(validation_questions()) <= 500
    for source in SOURCES:
        facts = {q.fact for q in train_questions(source)}
        assert len(train_questions(source)) == 5 * len(facts)


def test_no_prompt_is_in_two_sets():
    sets = [
        {q.prompt for source in SOURCES for q in train_questions(source)},
        {q.prompt for q in validation_questions()},
        {q.prompt for q in exam_questions()},
    ]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_no_wording_is_in_two_sets():
    sets = [
        {q.wording for source in SOURCES for q in train_questions(source)},
        {q.wording for q in validation_questions()},
        {q.wording for q in exam_questions()},
    ]
    assert [len(s) for s in sets] == [5, 1, 4]
    assert len(set.union(*sets)) == 10


@pytest.mark.parametrize("source", SOURCES)
def test_knowledge_is_asked_of_trained_facts_and_operations_of_unseen_pairs(source):
    trained = {q.fact for q in train_questions(source)}
    asked = {q.fact for q in exam_questions() if q.source == source}
    validated = {q.fact for q in validation_questions() if q.source == source}
    if sources()[source].kind == "knowledge":
        assert trained == asked == validated == set(range(len(sources()[source].facts)))
    else:
        assert not trained & asked
        assert not validated & (trained | asked)


def test_the_answer_is_the_truth_and_its_place_is_no_hint():
    for question in [*exam_questions(), *validation_questions()]:
        fact = sources()[question.source].facts[question.fact]
        assert question.options[question.answer] == fact.truth
        assert set(question.options) == set(fact.candidates)
    places = Counter(q.answer for q in exam_questions())
    assert all(55 <= places[place] <= 105 for place in range(4))


def test_the_halves_are_disjoint_facts_of_equal_weight():
    sets = [{(q.source, q.fact) for q in exam_questions() if q.half == half} for half in (0, 1)]
    assert not sets[0] & sets[1]
    assert abs(sum(q.half for q in exam_questions()) - 160) <= 10


def test_the_base_reads_every_fact_in_every_wording():
    read = {prompt: follows for prompt, follows, _ in base_questions()}
    for question in [*exam_questions(), *validation_questions(), *train_questions(3)]:
        assert set(read[question.prompt]) == set(question.options)
    assert {len(texts) for texts in WORDINGS.values()} == {10}
    assert read["3 plus 9 ="] == ("2",)
