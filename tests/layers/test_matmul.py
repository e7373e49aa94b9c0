import threading
from types import SimpleNamespace

import pytest
import torch

from lorascope.layers import matmul
from lorascope.layers.matmul import (
    batched_matmul,
    bfloat16_is_fast,
    matmul_to_few,
    onednn_is_exact,
)

MODE = getattr(torch.backends.mkldnn, "matmul", None)
needs_onednn = pytest.mark.skipif(
    not onednn_is_exact(), reason="this processor rounds in oneDNN's mode, or torch has none"
)


def operands(dtype=torch.float32, grad=False):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 70, 130, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 130, 16, generator=generator, dtype=torch.float64)
    return a.to(dtype).requires_grad_(grad), b.to(dtype).requires_grad_(grad)


def test_float32_is_accurate_to_float32():
    a, b = operands()
    exact = a.double() @ b.double()
    error = (batched_matmul(a, b) - exact).norm() / exact.norm()
    # bf16 factors would be a thousand times worse: this is the promise of the file
    assert float(error) < 1e-6
    for left, right in ((a.mT.contiguous().mT, b), (a, b.mT.contiguous().mT)):
        again = batched_matmul(left, right)
        assert float((again - exact).norm() / exact.norm()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_are_bmm(dtype):
    a, b = operands(dtype)
    assert torch.equal(batched_matmul(a, b), torch.bmm(a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_writes_into_a_part_of_a_tensor(dtype):
    a, b = operands(dtype)
    whole = torch.full((5, 70, 16), 7.0, dtype=dtype)
    with torch.no_grad():
        batched_matmul(a, b, out=whole[1:4])
    assert torch.equal(whole[1:4], batched_matmul(a, b))
    assert bool((whole[[0, 4]] == 7).all())


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 5e-3), (torch.float64, 1e-14)]
)
def test_gradients_are_those_of_bmm(dtype, limit):
    found, expected = operands(dtype, grad=True), operands(dtype, grad=True)
    (batched_matmul(*found).square().sum()).backward()
    (torch.bmm(*expected).square().sum()).backward()
    for x, y in zip(found, expected, strict=True):
        assert x.grad.dtype == dtype
        assert float((x.grad - y.grad).norm() / y.grad.norm()) < limit


def test_a_gradient_that_is_not_needed_is_not_computed():
    a, b = operands()
    batched_matmul(a, b.requires_grad_()).sum().backward()
    assert a.grad is None
    assert b.grad is not None


def test_differentiable_twice():
    a, b = operands(grad=True)
    (first,) = torch.autograd.grad(batched_matmul(a, b).square().sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), b)
    x, y = operands(torch.float64, grad=True)
    (want,) = torch.autograd.grad(torch.bmm(x, y).square().sum(), x, create_graph=True)
    (want,) = torch.autograd.grad(want.square().sum(), y)
    assert float((second - want).norm() / want.norm()) < 1e-5


def test_autocast_decides_its_own_type():
    a, b = operands(grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = batched_matmul(a, b)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert a.grad.dtype == torch.float32


@needs_onednn
def test_the_mode_of_the_process_is_restored():
    before = MODE.fp32_precision
    a, b = operands(grad=True)
    batched_matmul(a, b).sum().backward()
    assert MODE.fp32_precision == before
    with pytest.raises(RuntimeError):
        batched_matmul(a, a)
    assert MODE.fp32_precision == before


@needs_onednn
def test_threads_leave_the_mode_as_it_was():
    before = MODE.fp32_precision
    a, b = operands()
    expected = batched_matmul(a, b)
    results = []

    def work():
        results.extend(torch.equal(batched_matmul(a, b), expected) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    assert all(results)
    assert MODE.fp32_precision == before


def test_without_the_mode_it_is_bmm(monkeypatch):
    monkeypatch.setattr(torch.backends, "mkldnn", SimpleNamespace())  # as in torch 2.6
    onednn_is_exact.cache_clear()
    try:
        a, b = operands()
        assert torch.equal(batched_matmul(a, b), torch.bmm(a, b))
        assert not matmul.onednn_is_exact()
    finally:
        onednn_is_exact.cache_clear()


def test_bfloat16_is_fast_on_accelerators_and_where_the_processor_says_so(monkeypatch):
    assert bfloat16_is_fast(torch.device("cuda"))
    for answer in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=answer: answer)
        assert bfloat16_is_fast(torch.device("cpu")) is answer


@pytest.mark.parametrize("columns", [0, 1, 5])
def test_few_columns_are_a_product_and_differentiable(columns):
    a, b = (x[0] for x in operands(torch.float64))
    b = b[:, :columns]
    torch.testing.assert_close(matmul_to_few(a, b), a @ b)
    a.requires_grad_()
    matmul_to_few(a, b).sum().backward()
    torch.testing.assert_close(a.grad, b.sum(1).expand_as(a))
