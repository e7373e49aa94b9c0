"""Rules by regular expression: the same as peft's, and never for ever."""

import itertools
import re
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorascope.errors import FormatError, HostileFileError, LorascopeError
from lorascope.io.peft import pattern as peft_pattern
from lorascope.io.peft.pattern import Patterns

NAMES = [
    f"model.layers.{i}.{part}"
    for i in (0, 1, 10, 11)
    for part in ("self_attn.q_proj", "mlp.up_proj")
]
PATTERNS = [
    "q_proj",
    "proj",
    "self_attn.q_proj",
    "1.self_attn.q_proj",
    r"layers\.1\..*",
    r".*\.mlp\.up_proj",
    "layers.(0|10).*",
    "^model.*q_proj",
    r"layers\.[0-9]+\.(self_attn\.q_proj|mlp\.up_proj)",
    "up.proj",
    "model.layers.0.self_attn.q_proj",
    r"(?:layers)?\.1?1\.mlp\.up_proj",
    "nothing",
    "",
]


@pytest.mark.parametrize("first", PATTERNS)
@pytest.mark.parametrize("second", PATTERNS)
def test_rules_are_those_of_peft(first, second):
    from peft.utils.other import get_pattern_key

    table = {first: 1, second: 2}
    rules = Patterns(table, "rank_pattern", "file")
    for name in NAMES:
        assert rules.match(name) == table.get(get_pattern_key(table.keys(), name))


def test_many_literal_rules_are_fast():
    """mergekit writes one rule for each of hundreds of layers."""
    names = [f"model.layers.{i}.self_attn.{part}_proj" for i in range(250) for part in "qkvo"]
    rules = Patterns({name: place for place, name in enumerate(names)}, "rank_pattern", "file")
    start = time.perf_counter()
    assert [rules.match(name) for name in names] == list(range(len(names)))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*b", "((a?)*)*", "(?=a)b", r"(a)\1", "(?P<x>a)", "(a{1,9}){2,}b", "(?:x*)*"],
)
def test_rules_that_could_explode_are_refused(pattern):
    with pytest.raises(HostileFileError, match="repeats a group"):
        Patterns({pattern: 1}, "rank_pattern", "file")


@pytest.mark.parametrize(
    "pattern", [".*.*.*.*.*.*x", "(a|a)" * 40 + "x", "a?" * 60 + "a" * 60, r"\w*" * 7]
)
def test_rules_that_are_slow_on_a_long_name_are_refused(pattern):
    rules = Patterns({pattern: 1}, "rank_pattern", "file")
    with pytest.raises(HostileFileError, match="could take for ever"):
        rules.match("a" * 500)


def test_a_busy_machine_is_no_slow_rule(monkeypatch):
    passed = itertools.count(step=10.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(passed))
    monkeypatch.setattr(time, "perf_counter", lambda: next(passed))
    rules = Patterns({"q_proj": 1, r"k_(proj|x)": 2}, "rank_pattern", "file")
    assert [rules.match(name) for name in ("q_proj", "a.k_x", "none")] == [1, 2, None]


def test_rules_are_timed(monkeypatch):
    monkeypatch.setattr(peft_pattern, "MAX_SECONDS", -1.0)
    rules = Patterns({"q_proj": 1}, "rank_pattern", "file")
    with pytest.raises(HostileFileError, match="matching took longer"):
        rules.match("k_proj")


def test_long_rules_are_refused():
    with pytest.raises(HostileFileError, match="2001 characters"):
        Patterns({"a+" + "a" * 1999: 1}, "rank_pattern", "file")


def test_rules_are_counted(monkeypatch):
    for limit, table in (
        ("MAX_LITERALS", {"a": 1, "b": 1}),
        ("MAX_EXPRESSIONS", {"a.*": 1, "b.*": 1}),
    ):
        monkeypatch.setattr(peft_pattern, limit, 1)
        with pytest.raises(
            HostileFileError, match=r"expected at most 1 and|expected at most 50000 and 1"
        ):
            Patterns(table, "rank_pattern", "file")
        monkeypatch.undo()


@pytest.mark.parametrize("pattern", ["(", "[", "a**", "a{99999999999}"])
def test_rules_that_are_none_are_refused(pattern):
    with pytest.raises(FormatError, match="is no regular expression"):
        Patterns({pattern: 1}, "rank_pattern", "file")


@given(st.text(alphabet="a.*+?|()[]{}\\^$1,-", max_size=12))
def test_no_rule_takes_long(pattern):
    start = time.perf_counter()
    try:
        value = Patterns({pattern: 1}, "rank_pattern", "file").match("a" * 60 + ".b")
    except LorascopeError:
        pass
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = re.match(rf"(.*\.)?({pattern})$", "a" * 60 + ".b")
        assert value == (1 if found else None)
    assert time.perf_counter() - start < 2
