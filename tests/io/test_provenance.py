"""Provenance as text: a round trip, and equal text for equal values."""

import pytest

from lorascope.core import Provenance, Scale
from lorascope.errors import IntegrityError
from lorascope.io.provenance import dump_provenance, load_provenance


def test_round_trip():
    scales = {"q": Scale(None, 4, 1.0, "1 (no config)"), "v": Scale(8.0, 4, 2.0, "alpha/r")}
    provenance = Provenance(
        "peft",
        "a/b",
        "base",
        "w",
        scales,
        ("x: y",),
        ("n: m",),
        {"r": [1, {"k": None}]},
        {"e": "embedding"},
        ("dora: left",),
    )
    assert load_provenance(dump_provenance(provenance)) == provenance
    assert load_provenance(dump_provenance(Provenance())) == Provenance()


def test_equal_values_give_equal_text():
    a = Provenance(config={"a": 1, "b": 2})
    b = Provenance(config={"b": 2, "a": 1})
    assert dump_provenance(a) == dump_provenance(b)
    assert "PosixPath" not in dump_provenance(Provenance(config={"path": 1}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"scales": {}}',
        '{"scales": {"q": 3}}',
        "[" * 100_000,
        '{"scales": {}, "x": 1}',
    ],
)
def test_another_text_is_refused(text):
    with pytest.raises(IntegrityError, match="expected what dump_provenance wrote"):
        load_provenance(text)
