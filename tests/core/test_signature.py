"""Signatures: shape groups, what fits and what does not, storage."""

import json

import pytest

from lorascope.core import LayerShape, Signature
from lorascope.errors import SignatureError

LAYERS = (LayerShape("a.q", 8, 8), LayerShape("a.v", 4, 8), LayerShape("b.q", 8, 8))
SIGNATURE = Signature(LAYERS, "base")


def test_groups_are_in_order_of_first_appearance():
    groups = SIGNATURE.groups()
    assert [(g.n, g.m, g.indices) for g in groups] == [(8, 8, (0, 2)), (4, 8, (1,))]
    assert len(groups[0]) == 2
    assert Signature(()).groups() == ()


def test_the_same_layers_in_another_order_fit():
    coverage = SIGNATURE.check(Signature(LAYERS[::-1], "another base"))
    assert coverage == (3, 3)
    assert coverage.fraction == 1.0


def test_missing_layers_pass_only_where_declared():
    part = Signature(LAYERS[:2])
    with pytest.raises(SignatureError, match=r"'b\.q' is missing \(2 of 3"):
        SIGNATURE.check(part)
    assert SIGNATURE.check(part, allow_missing=True).fraction == pytest.approx(2 / 3)
    assert Signature(()).check(Signature(())).fraction == 1.0


@pytest.mark.parametrize("allow_missing", [True, False])
def test_extra_and_changed_layers_never_pass(allow_missing):
    extra = Signature((*LAYERS, LayerShape("c.q", 8, 8)))
    with pytest.raises(SignatureError, match=r"'c\.q' \(8 x 8\) is not among.*like 'a\.q'"):
        SIGNATURE.check(extra, allow_missing=allow_missing)
    changed = Signature((LAYERS[0], LayerShape("a.v", 5, 8), LAYERS[2]))
    with pytest.raises(SignatureError, match=r"'a\.v' is 5 x 8, expected 4 x 8"):
        SIGNATURE.check(changed, allow_missing=allow_missing)


def test_a_union_has_every_layer_in_the_order_of_the_longest():
    first, last = Signature(LAYERS[2:], "first base"), Signature((LayerShape("c.q", 2, 2),))
    joined = Signature.union([first, SIGNATURE, last])
    assert joined == Signature((*LAYERS, LayerShape("c.q", 2, 2)), "first base")
    with pytest.raises(SignatureError, match=r"'a\.v' is 5 x 8 in one and 4 x 8 in another"):
        Signature.union([SIGNATURE, Signature((LayerShape("a.v", 5, 8),))])
    with pytest.raises(SignatureError, match="found none"):
        Signature.union([])


def test_a_name_stands_once():
    with pytest.raises(SignatureError, match=r"'a\.q' stands twice"):
        Signature((LAYERS[0], LAYERS[0]))


def test_storage_round_trip_and_digest():
    again = Signature.from_json(json.loads(json.dumps(SIGNATURE.to_json())))
    assert again == SIGNATURE
    assert again.digest() == SIGNATURE.digest()
    assert Signature(LAYERS).digest() != SIGNATURE.digest()


@pytest.mark.parametrize(
    "data", [{}, {"layers": [["a", 1]]}, {"layers": [["a", "x", 1]]}, [], None]
)
def test_other_data_is_refused(data):
    with pytest.raises(SignatureError, match="Reading a stored signature"):
        Signature.from_json(data)
