import pytest

from lorascope.bench.alterations import ALTERATIONS
from lorascope.bench.methods import METHODS
from lorascope.bench.suites import SUITES, suite_of
from lorascope.errors import DataError
from lorascope.zoo.families.collection import COLLECTION


@pytest.mark.parametrize("name", list(SUITES))
def test_a_suite_names_methods_zoos_and_writings_that_exist(name):
    suite = suite_of(name)
    assert suite.name == name
    assert set(suite.methods) <= set(METHODS)
    assert set(suite.needed()) <= set(COLLECTION)
    assert set(suite.alterations) <= set(ALTERATIONS)
    assert set(suite.shares) <= set(suite.needed())


def test_the_full_suite_runs_everything():
    suite = suite_of("full")
    assert set(suite.methods) == set(METHODS)
    assert set(suite.needed()) == set(COLLECTION)
    assert suite.seeds == (0, 1, 2)


def test_an_unknown_suite_names_those_that_exist():
    with pytest.raises(DataError, match="expected one of full, paper, small"):
        suite_of("huge")
