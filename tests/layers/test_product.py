import torch

from lorascope.layers import full_product, mean_product


def test_the_equations(draw):
    pair = draw.pair()
    expected = torch.einsum("lbrc,lbrd->blcd", *pair)
    torch.testing.assert_close(full_product(pair), expected)
    torch.testing.assert_close(mean_product(pair), expected.mean((-1, -2)))


def test_invariant(draw):
    pair = draw.pair()
    _, moved = draw.moved(pair)
    for function in (full_product, mean_product):
        torch.testing.assert_close(function(moved), function(pair), rtol=1e-9, atol=1e-9)


def test_rank_zero_is_a_zero_update(draw):
    pair = draw.pair(rank=0)
    assert not full_product(pair).any()
    assert not mean_product(pair).any()
