"""The error tree: one root, and the tree that the docstring draws is the tree."""

import inspect
import re

import pytest

from lorascope import errors


def classes():
    return {
        n: c
        for n, c in inspect.getmembers(errors, inspect.isclass)
        if c.__module__ == errors.__name__
    }


def test_all_names_the_tree():
    assert sorted(errors.__all__) == sorted(classes())
    for error in classes().values():
        assert issubclass(error, errors.LorascopeError)


def test_the_drawn_tree_is_the_tree():
    parents: dict[int, str] = {}
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([| `-]*)(\w+Error)\b", line)
        if found:
            depth = len(found.group(1)) // 4
            drawn[found.group(2)] = parents.get(depth - 1, "Exception")
            parents[depth] = found.group(2)
    assert drawn == {name: error.__bases__[0].__name__ for name, error in classes().items()}


def test_a_missing_extra_prints_the_pip_line():
    with pytest.raises(errors.LorascopeError, match=r"pip install 'lorascope\[zoo\]'"):
        raise errors.MissingExtraError("peft", "zoo", "Building a zoo")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file", "a"), "No such file: a"),
        (OSError(28, "No space left"), "No space left"),
        (OSError("plain"), "plain"),
        (errors.DataError("first\n second"), "first second"),
        (errors.DataError(""), "DataError"),
    ],
)
def test_the_sentence_of_an_error_is_one_line(error, said):
    assert errors.sentence(error) == said
