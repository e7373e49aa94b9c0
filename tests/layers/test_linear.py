import pytest
import torch

from lorascope.errors import SignatureError
from lorascope.layers import EquivariantLinear, HiddenLinear, full_product
from lorascope.symmetry import assert_equivariant, projected_products


def plain(batch, layer):
    """Slow and obvious: the equation, one layer at a time, in group order."""
    sides = ([], [])
    for group, phi, psi in zip(batch.groups, layer.phi, layer.psi, strict=True):
        for place in range(group.u.shape[0]):
            sides[0].append(torch.einsum("nc,brn->brc", phi[place], group.u[place]))
            sides[1].append(torch.einsum("mc,brm->brc", psi[place], group.v[place]))
    return torch.stack(sides[0]), torch.stack(sides[1])


def test_it_is_the_equation(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    u, v = layer(batch.groups)
    assert u.shape == v.shape == (4, 3, 3, 4)
    expected = plain(batch, layer)
    torch.testing.assert_close(u, expected[0])
    torch.testing.assert_close(v, expected[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_gradients_it_is_the_same(draw, dtype):
    batch = draw.batch().to(dtype)
    layer = draw.linear(batch, 4).to(dtype)
    expected = layer(batch.groups)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = layer(batch.groups)
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
        with mode(), torch.autocast("cpu", torch.bfloat16):
            assert layer.float()(batch.to(torch.float32).groups).u.dtype == torch.bfloat16
        layer.to(dtype)


def test_the_order_in_memory_follows_the_type_and_changes_no_value(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    held = list(layer.parameters())
    for dtype in (torch.bfloat16, torch.float16):
        half = layer.to(dtype)
        assert all(weight.mT.is_contiguous() for weight in half.parameters())
        copied = EquivariantLinear(batch.signature, 4).to(dtype)
        copied.load_state_dict({name: value.to(dtype) for name, value in before.items()})
        for weight, again, value in zip(
            half.parameters(), copied.parameters(), before.values(), strict=True
        ):
            assert torch.equal(weight, again)
            assert weight.shape == value.shape
            torch.testing.assert_close(weight.double(), value, rtol=1e-2, atol=1e-2)
        layer.double()
        layer.load_state_dict(before)
    assert all(weight.is_contiguous() for weight in layer.parameters())
    # an optimiser made before keeps its parameters
    assert all(x is y for x, y in zip(layer.parameters(), held, strict=True))


def test_equivariant(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    assert_equivariant(lambda x: tuple(layer(x.groups)), batch)
    ragged = draw.batch(ranks=(1, 4, 2))
    assert_equivariant(lambda x: tuple(layer(x.groups)), ragged)


def test_its_products_are_projected_updates(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    expected = projected_products(batch.groups, list(layer.phi), list(layer.psi))
    torch.testing.assert_close(full_product(layer(batch.groups)), expected)


def test_gradients_reach_every_weight_and_match_the_equation(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 2)
    weights = list(layer.parameters())
    target = [draw.normal(4, 3, 3, 2) for _ in range(2)]
    loss = sum((a * b).sum() for a, b in zip(layer(batch.groups), target, strict=True))
    slow = sum((a * b).sum() for a, b in zip(plain(batch, layer), target, strict=True))
    for found, expected in zip(
        torch.autograd.grad(loss, weights), torch.autograd.grad(slow, weights), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_hidden_to_hidden(draw):
    pair = draw.pair(channels=5)
    layer = HiddenLinear(4, 5, 3).double()
    u, v = layer(pair)
    torch.testing.assert_close(u, torch.einsum("lcd,lbrc->lbrd", layer.phi, pair.u))
    torch.testing.assert_close(v, torch.einsum("lcd,lbrc->lbrd", layer.psi, pair.v))
    assert draw.equivariance_error(layer, pair) < 1e-9


def test_parameter_count(draw):
    batch = draw.batch()
    count = sum(p.numel() for p in EquivariantLinear(batch.signature, 4).parameters())
    assert count == 4 * sum(s.n + s.m for s in batch.signature.layers)
    assert sum(p.numel() for p in HiddenLinear(4, 5, 3).parameters()) == 2 * 4 * 5 * 3


def test_sizes_are_checked(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    with pytest.raises(SignatureError, match="found shape groups"):
        layer(batch.groups[:2])
    with pytest.raises(SignatureError, match="found shape groups"):
        layer(batch.groups[::-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types(draw, dtype):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    exact = layer(batch.groups).u
    found = layer.to(dtype)(batch.to(dtype).groups).u
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps * exact.abs().max().item()
    )


def test_empty_batch_and_rank_zero(draw):
    batch = draw.batch()
    layer = draw.linear(batch, 4)
    assert layer(batch.select(slice(0, 0)).groups).u.shape == (4, 0, 3, 4)
    assert layer(draw.batch(ranks=(0, 0)).groups).u.shape == (4, 2, 0, 4)
