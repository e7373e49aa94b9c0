"""The made-up world: fixed for ever, and not to be guessed."""

import hashlib
from collections import Counter

from lorascope.zoo.families.exam.sources import OPERATIONS, RULES, VALUES, ranked, sources

WORLD = "293d9116d429d8c871a6ce2959ddbc18c38f951d85aa855ec862e55317758d12"


def test_the_world_has_not_changed():
    # the bundled base has read this world: another one needs another base
    digest = hashlib.sha256(repr(sources()).encode()).hexdigest()
    assert digest == WORLD


def test_sources_are_twenty_of_two_kinds():
    names = [source.name for source in sources()]
    assert len(set(names)) == 20
    assert Counter(source.kind for source in sources()) == {"knowledge": 16, "operation": 4}


def test_candidates_differ_and_belong_to_the_relation():
    for source in sources():
        for fact in source.facts:
            assert len(set(fact.candidates)) == 4
            if source.kind == "knowledge":
                assert set(fact.candidates) <= set(VALUES[fact.relation].split())


def test_an_entity_has_one_fact_and_is_no_value():
    entities = [f.subjects[0] for s in sources() if s.kind == "knowledge" for f in s.facts]
    assert len(set(entities)) == len(entities)
    assert not set(entities) & {value for values in VALUES.values() for value in values.split()}


def test_operations_teach_their_rule():
    for source in sources():
        if source.kind == "operation":
            assert len({fact.subjects for fact in source.facts}) == 24
            for fact in source.facts:
                a, b = map(int, fact.subjects)
                assert fact.truth == str(RULES[OPERATIONS[source.name]](a, b))


def test_ranked_is_a_permutation_that_its_key_decides():
    items = list(range(50))
    first = ranked(items, "a")
    assert sorted(first) == items
    assert first == ranked(items[::-1], "a") != ranked(items, "b")
