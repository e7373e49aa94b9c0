from lorascope.layers import HiddenPair


def test_a_pair_unpacks_by_side(draw):
    pair = draw.pair()
    u, v = pair
    assert u is pair.u
    assert v is pair.v
    assert isinstance(pair, HiddenPair)
