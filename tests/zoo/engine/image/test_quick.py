"""The kernels in C against torch, values and gradients; skipped where no C compiler works."""

import pytest
import torch
import torch.nn.functional as F

from lorascope.compiled import _say_once, compiled, compiled_or_none
from lorascope.zoo.engine.image import quick
from tests.zoo.engine.image.conftest import make_base, make_job, make_unet

pytestmark = pytest.mark.skipif(quick.library() is None, reason="no C compiler")
NEAR = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check(mine, plain, inputs, dtype):
    """Outputs and gradients of `mine` in a dtype against those of `plain` in float64."""
    exact = [x.to(dtype).double().requires_grad_() for x in inputs]
    given = [x.to(dtype).requires_grad_() for x in inputs]
    y, wanted = mine(*given), plain(*exact)
    assert y.dtype == dtype
    g = randn(*wanted.shape, seed=9).to(dtype)
    found = [y, *torch.autograd.grad(y, given, g)]
    expected = [wanted, *torch.autograd.grad(wanted, exact, g.double())]
    for a, b in zip(found, expected, strict=True):
        assert float(((a.double() - b).norm() / b.norm()).detach()) < NEAR[dtype]


kinds = pytest.mark.parametrize("dtype", list(NEAR))


@kinds
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shape", [(3, 8, 4, 4), (2, 20, 3, 5), (1, 16, 1, 1)])
def test_group_norm(shape, silu, dtype):
    weight, bias = 1 + randn(shape[1], seed=1) / 4, randn(shape[1], seed=2)

    def plain(x):
        y = F.group_norm(x, 2, weight.double(), bias.double(), 1e-5)
        return F.silu(y) if silu else y

    check(
        lambda x: quick.group_norm(x, weight, bias, 2, 1e-5, silu=silu),
        plain,
        [randn(*shape) * 2 + 3],
        dtype,
    )


@kinds
@pytest.mark.parametrize("bias", [None, randn(7, seed=4)])
def test_adapters_of_a_linear_layer_apart_in_a_row(bias, dtype):
    weight = randn(7, 12, seed=1)

    def factors(rows):  # A: 2 x 12, B: 7 x 2, and numbers of another layer
        return rows[:, :24].view(3, 2, 12), rows[:, 24:38].view(3, 7, 2)

    def mine(x, rows):
        own = None if bias is None else bias.to(dtype)
        return quick.adapted(x, weight.to(dtype), own, *factors(rows.float()))

    def plain(x, rows):
        A, B = factors(rows)
        own = None if bias is None else bias.to(dtype).double()
        return F.linear(x, weight.to(dtype).double(), own) + x @ A.mT @ B.mT

    check(mine, plain, [randn(3, 5, 12), randn(3, 40, seed=2)], dtype)


def test_inputs_that_need_no_gradient_get_none():
    x, A, B = randn(2, 5, 4), randn(2, 1, 4, seed=1), randn(2, 3, 1, seed=2).requires_grad_()
    y = quick.adapted(x, randn(3, 4, seed=3), None, A, B)
    (found,) = torch.autograd.grad(y.sum(), B)
    wanted = (x @ A.mT).sum(1)[:, None].expand(2, 3, 1)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


@kinds
def test_layer_norm(dtype):
    weight, bias = 1 + randn(24, seed=1) / 4, randn(24, seed=2)
    check(
        lambda x: quick.layer_norm(x, weight, bias, 1e-5),
        lambda x: F.layer_norm(x, (24,), weight.double(), bias.double(), 1e-5),
        [randn(2, 3, 5, 24) + 1],
        dtype,
    )


@kinds
def test_gate(dtype):
    bias = randn(20, seed=1)

    def plain(x):
        a, g = (x + bias.double()).chunk(2, -1)
        return a * F.gelu(g)

    check(lambda x: quick.gated(x, bias), plain, [3 * randn(4, 7, 20)], dtype)


@kinds
@pytest.mark.parametrize(("t", "u", "d"), [(16, 16, 16), (5, 22, 8), (9, 3, 20)])
def test_attention(t, u, d, dtype):
    which = torch.tensor([0, 2, 2, 1])

    def plain(q, k, v):
        q, k, v = (
            x.unflatten(-1, (2, -1)).transpose(-2, -3) for x in (q, k[:, which], v[:, which])
        )
        y = ((q * 0.3) @ k.mT).softmax(-1) @ v
        return y.transpose(-2, -3).flatten(-2)

    inputs = [randn(2, 4, t, 2 * d), randn(2, 3, u, 2 * d, seed=1), randn(2, 3, u, 2 * d, seed=2)]
    check(lambda q, k, v: quick.attention(q, k, v, which, 2, 0.3), plain, inputs, dtype)


@kinds
def test_what_is_no_number_stays_none(dtype):
    x = randn(2, 8, 4, 4).to(dtype)
    x[0, 0, 0, 0] = float("nan")
    one = torch.ones(8)
    y = quick.group_norm(x, one, one, 2, 1e-5, silu=True)
    assert y[0, :4].isnan().all()
    assert y[1].isfinite().all()
    rows = x[:, :, 0].reshape(2, -1)
    assert quick.layer_norm(rows, torch.ones(32), torch.ones(32), 1e-5)[0].isnan().all()
    seen = quick.attention(*(rows.view(1, 2, 2, 16) for _ in range(3)), torch.arange(2), 2, 1.0)
    assert seen[0, 0].isnan().any()
    assert seen[0, 1].isfinite().all()


def test_training_with_the_kernels_equals_training_without():
    from dataclasses import replace

    from lorascope.zoo.engine.adapter_spec import AdapterSpec
    from lorascope.zoo.engine.image.fit import fit_images

    base = make_base(make_unet().float(), torch.float32)
    fast = replace(base, unet=base.unet.quickened())
    assert fast.unet.packed is not None
    assert base.to(torch.float64).unet.quickened().packed is None
    spec, jobs = AdapterSpec(("to_q", "to_v", "conv1"), rank=2, alpha=2), [make_job(0), make_job(1)]
    a, b = (fit_images(each, spec, jobs) for each in (base, fast))
    assert float((a.rows - b.rows).norm() / a.rows.norm()) < 1e-4
    assert torch.allclose(a.loss, b.loss, rtol=1e-5)


def test_no_compiler_is_said_once_and_does_no_harm(monkeypatch, caplog):
    caches = (quick.library, compiled, compiled_or_none, _say_once)
    for each in caches:
        each.cache_clear()
    monkeypatch.setenv("CC", "/no/such/compiler")
    try:
        assert quick.library() is None
        assert quick.library() is None
        assert len(caplog.records) == 1
        unet = make_base(make_unet(), torch.float32).unet
        assert unet.quickened() is unet
    finally:
        monkeypatch.undo()
        for each in caches:
            each.cache_clear()
