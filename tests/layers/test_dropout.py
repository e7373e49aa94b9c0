import pytest
import torch

from lorascope.errors import DataError
from lorascope.layers import HiddenPair, RowDropout


def test_whole_rows_and_the_mean_stays(draw):
    pair = draw.pair(layers=6, size=40, rank=3, channels=16)
    layer = RowDropout(0.25)
    u, v = layer(pair)
    for found, before in ((u, pair.u), (v, pair.v)):
        dropped = found == 0
        # all columns of a row or none
        assert torch.equal(dropped.all(2), dropped.any(2))
        assert 0.2 < float(dropped.double().mean()) < 0.3
        torch.testing.assert_close(found[~dropped], before[~dropped] / 0.75)
    assert not torch.equal(u == 0, v == 0)


def test_equivariant_for_a_fixed_mask(draw):
    layer = RowDropout(0.5)

    def seeded(pair):
        torch.manual_seed(3)
        return layer(pair)

    assert draw.equivariance_error(seeded, draw.pair()) < 1e-9


def test_dropping_entries_would_not_be_equivariant(draw):
    def entries(pair):
        torch.manual_seed(3)
        return HiddenPair(*(torch.nn.functional.dropout(x, 0.5) for x in pair))

    assert draw.equivariance_error(entries, draw.pair()) > 0.1


def test_identity_in_evaluation_and_at_zero(draw):
    pair = draw.pair()
    assert RowDropout(0.5).eval()(pair) is pair
    assert RowDropout(0.0)(pair) is pair


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_probabilities_are_checked(p):
    with pytest.raises(DataError, match="expected 0 <= p < 1"):
        RowDropout(p)
