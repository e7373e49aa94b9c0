import pytest
import torch

from lorascope.errors import DataError
from lorascope.layers import Gate, HiddenPair


def by_the_paper(pair, sigma):
    """Slow and obvious: row sums of the full product."""
    product = torch.einsum("lbri,lbrj->lbij", *pair)
    return (
        pair.u * sigma(product.sum(3)).unsqueeze(2),
        pair.v * sigma(product.sum(2)).unsqueeze(2),
    )


def test_the_sign_gate_is_the_papers(draw):
    pair = draw.pair()
    u, v = Gate("sign", 4)(pair)
    expected = by_the_paper(pair, lambda x: x.sign().relu())
    torch.testing.assert_close(u, expected[0])
    torch.testing.assert_close(v, expected[1])
    rows = u.abs().sum(2)
    assert 0.2 < float((rows == 0).double().mean()) < 0.8


def test_the_smooth_gate(draw):
    pair = draw.pair()
    gate = Gate("smooth", 4).double()
    for found, expected in zip(gate(pair), by_the_paper(pair, torch.sigmoid), strict=True):
        torch.testing.assert_close(found, expected)
    with torch.no_grad():
        gate.slope.fill_(1e6)
    # a steep smooth gate is the sign gate
    for found, expected in zip(gate(pair), Gate("sign", 4)(pair), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["sign", "smooth"])
def test_equivariant(draw, kind):
    assert draw.equivariance_error(Gate(kind, 4).double(), draw.pair()) < 1e-9


def test_a_gate_on_entries_would_not_be_equivariant(draw):
    assert draw.equivariance_error(lambda x: HiddenPair(x.u.relu(), x.v.relu()), draw.pair()) > 0.1


def test_gradients_reach_pairs_and_slopes(draw):
    pair = HiddenPair(*(x.requires_grad_() for x in draw.pair()))
    gate = Gate("smooth", 4).double()
    sum(x.square().sum() for x in gate(pair)).backward()
    assert bool(gate.slope.grad.any(1).all())
    assert pair.u.grad.abs().min() > 0


def test_zero_pairs_stay_zero():
    zero = HiddenPair(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3))
    for kind in ("sign", "smooth"):
        assert not any(x.any() for x in Gate(kind, 1)(zero))


def test_unknown_kind():
    with pytest.raises(DataError, match="found 'relu'"):
        Gate("relu", 1)
