import torch

from lorascope.layers import bilinear_form, full_product, mean_product


def test_the_equations(draw):
    pair = draw.pair()
    expected = torch.einsum("lbrc,lbrd->blcd", *pair)
    torch.testing.assert_close(full_product(pair), expected)
    torch.testing.assert_close(mean_product(pair), expected.mean((-1, -2)))


def test_the_form_is_a_linear_map_of_the_products(draw):
    pair = draw.pair()
    wide = draw.normal(3, 4 * 5 * 5 + 2)
    weight = wide[:, :-2].requires_grad_()  # as a head's: without its last columns
    form = bilinear_form(pair, weight)
    assert form.shape == (4, 3, 3)
    expected = full_product(pair).flatten(1) @ weight.T
    torch.testing.assert_close(form.sum(0), expected, rtol=1e-12, atol=1e-12)
    share = full_product(pair).flatten(2) @ weight.unflatten(1, (4, 25)).permute(1, 2, 0)[2]
    torch.testing.assert_close(form[2], share[:, 2], rtol=1e-12, atol=1e-12)
    target = draw.normal(3, 3)
    found, wanted = (
        torch.autograd.grad((x * target).sum(), weight)[0] for x in (form.sum(0), expected)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_invariant(draw):
    pair = draw.pair()
    _, moved = draw.moved(pair)
    weight = draw.normal(1, 4 * 5 * 5)
    for function in (full_product, mean_product, lambda x: bilinear_form(x, weight)):
        torch.testing.assert_close(function(moved), function(pair), rtol=1e-9, atol=1e-9)


def test_rank_zero_is_a_zero_update(draw):
    pair = draw.pair(rank=0)
    assert not full_product(pair).any()
    assert not mean_product(pair).any()
    assert bilinear_form(pair, draw.normal(2, 100)).shape == (4, 3, 2)
    assert not bilinear_form(pair, draw.normal(2, 100)).any()
