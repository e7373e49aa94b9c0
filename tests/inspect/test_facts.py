import math

import pytest

from lorascope.inspect.facts import Facts, LayerFacts


def layer(name, norm=1.0, n=12, m=9):
    return LayerFacts(name, n, m, 4, "float32", norm=norm)


def facts(*layers):
    return Facts("here", "peft", None, None, 0, 0, layers)


NAMES = ["model.layers.2.q", "model.layers.10.q", "model.layers.2.v", "head"]


def test_blocks_stand_in_counting_order_and_hold_every_layer_once():
    found = facts(*map(layer, NAMES))
    assert [block.block for block in found.blocks()] == [
        "head",
        "model.layers.2",
        "model.layers.10",
    ]
    assert sum(len(block.layers) for block in found.blocks()) == 4
    assert found.norm == pytest.approx(math.hypot(*(block.norm for block in found.blocks())))


def test_kinds_gather_what_differs_in_numbers_only():
    found = facts(*map(layer, NAMES), layer("model.layers.3.q", n=6))
    assert [(kind.kind, len(kind.layers)) for kind in found.kinds()] == [
        ("model.layers.*.q", 2),
        ("model.layers.*.v", 1),
        ("head", 1),
        ("model.layers.*.q", 1),
    ]


def test_what_was_not_measured_has_no_norm():
    assert facts(layer("a"), layer("b", norm=None)).norm is None
    assert layer("a", norm=None).rms is None
    assert layer("a", norm=3.0, n=3, m=3).rms == 1.0
    assert layer("a", norm=0.0, n=0).rms == 0.0


def test_nothing_has_facts_too():
    assert facts().blocks() == facts().kinds() == ()
    assert facts().norm == 0
