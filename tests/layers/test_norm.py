import pytest
import torch

from lorascope.layers import (
    GLNorm,
    HiddenPair,
    divide_by_norm,
    full_product,
    one_over_norm,
    product_norm,
)


def test_the_norm_is_that_of_the_product(draw):
    pair = draw.pair()
    torch.testing.assert_close(product_norm(*pair), torch.linalg.matrix_norm(full_product(pair)).T)


def test_products_have_norm_one(draw):
    pair = draw.pair()
    norms = torch.linalg.matrix_norm(full_product(GLNorm(4, 5).double()(pair)))
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_row_scales(draw):
    pair = draw.pair()
    layer = GLNorm(4, 5).double()
    plain = layer(pair)
    with torch.no_grad():
        layer.gamma[2, 0, 0, 3] = 7.0
    u, v = layer(pair)
    torch.testing.assert_close(u[2, :, :, 3], 7 * plain.u[2, :, :, 3])
    torch.testing.assert_close(u[1], plain.u[1])
    torch.testing.assert_close(v, plain.v)


def test_equivariant(draw):
    layer = GLNorm(4, 5).double()
    with torch.no_grad():
        layer.gamma.copy_(draw.normal(4, 1, 1, 5))
        layer.beta.copy_(draw.normal(4, 1, 1, 5))
    assert draw.equivariance_error(layer, draw.pair()) < 1e-9


def test_indifferent_to_size(draw):
    layer = GLNorm(4, 5).double()
    pair = draw.pair()
    for found, expected in zip(layer(HiddenPair(100 * pair.u, pair.v)), layer(pair), strict=True):
        # 100 u has norm 100: both factors are divided by 10, so that u grows and v shrinks
        ratio = found / expected
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    product = full_product(layer(HiddenPair(100 * pair.u, pair.v)))
    torch.testing.assert_close(product, full_product(layer(pair)))


def test_zero_products_give_zero_and_finite_gradients(draw):
    pair = draw.pair()
    u = pair.u.clone()
    u[1] = 0
    u[2, 0] = 0
    u.requires_grad_()
    out = GLNorm(4, 5).double()(HiddenPair(u, pair.v))
    assert not out.u[1].any()
    assert not out.v[1].any()
    assert bool(out.u[0].all())
    (out.u.sum() + out.v.square().sum()).backward()
    assert bool(u.grad.isfinite().all())


def test_dividing_by_a_given_norm(draw):
    pair = draw.pair()
    norm = torch.rand(4, 3, dtype=torch.float64) + 0.5
    norm[0, 1] = 0
    divided = full_product(divide_by_norm(pair, norm))
    expected = full_product(pair) / norm.T.clamp(min=1e-300)[..., None, None]
    expected[1, 0] = 0
    torch.testing.assert_close(divided, expected)
    scaled = full_product(pair) * one_over_norm(norm).T[..., None, None]
    torch.testing.assert_close(divided, scaled)


@pytest.mark.parametrize("rank", [0, 1])
def test_small_ranks(draw, rank):
    pair = draw.pair(rank=rank)
    assert product_norm(*pair).shape == (4, 3)
    assert bool(GLNorm(4, 5).double()(pair).u.isfinite().all())


def test_bfloat16_sums_in_float32(draw):
    pair = draw.pair(channels=512)
    half = HiddenPair(pair.u.bfloat16(), pair.v.bfloat16())
    norms = product_norm(*half)
    assert norms.dtype == torch.float32
    torch.testing.assert_close(norms.double(), product_norm(*pair), rtol=5e-3, atol=0)
    assert GLNorm(4, 512).bfloat16()(half).u.dtype == torch.bfloat16
