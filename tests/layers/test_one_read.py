"""One read against two products, with the kernel in C and without."""

import pytest
import torch

from lorascope.compiled import compiled
from lorascope.layers import one_read as module
from lorascope.layers.one_read import one_read

needs_kernel = pytest.mark.skipif(
    module.wide_kernel("one_read") is None,
    reason="no C compiler, or a processor that it is not for",
)
SHAPES = [
    (2, 5, 4, 100, 16),
    (1, 3, 1, 33, 5),
    (3, 2, 9, 64, 48),
    (1, 1, 16, 7, 20),
    (2, 9, 3, 16, 1),
]


def some(layers: int, b: int, r: int, n: int, c: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(layers, b, r, n, generator=generator)
    return x, torch.randn(layers, n, c, generator=generator)


def check(x: torch.Tensor, p: torch.Tensor) -> None:
    (read,) = one_read([x], [p])
    torch.testing.assert_close(
        read.product, torch.einsum("lbrn,lnc->lbrc", x, p), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        read.gram, torch.einsum("lbrn,lbsn->lbrs", x, x), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_and_gram_matrices_by_torch(shape):
    check(*some(*shape))


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_and_gram_matrices_by_the_kernel(shape, threads, monkeypatch):
    monkeypatch.setattr(module, "LEAST_NUMBERS", 0)
    monkeypatch.setattr(module, "_by_torch", None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, p = some(*shape)
        check(x, p)
        check(torch.cat([x, x], 1)[:, : x.shape[1]], p)  # part of a batch
    finally:
        torch.set_num_threads(before)


@needs_kernel
def test_a_number_that_is_none_stays_in_its_lora(monkeypatch):
    monkeypatch.setattr(module, "LEAST_NUMBERS", 0)
    x, p = some(2, 5, 4, 100, 16)
    x[1, 2, 3, 50] = torch.nan
    (read,) = one_read([x], [p])
    for found in read:
        bad = found.isnan().flatten(2).any(2)
        assert bad.nonzero().tolist() == [[1, 2]]


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_go_through_torch(dtype, monkeypatch):
    monkeypatch.setattr(module, "LEAST_NUMBERS", 0)
    x, p = some(2, 5, 4, 100, 16)
    (read,) = one_read([x.to(dtype)], [p if dtype == torch.bfloat16 else p.to(dtype)])
    torch.testing.assert_close(read.product.float(), x @ p.unsqueeze(1), rtol=2e-2, atol=1e-1)
    assert read.gram.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_without_a_compiler_the_same_is_read(monkeypatch):
    monkeypatch.setattr(module, "LEAST_NUMBERS", 0)
    monkeypatch.setenv("CC", "/no/such/compiler")
    compiled.cache_clear()
    module.wide_kernel.cache_clear()
    try:
        check(*some(2, 5, 4, 100, 16))
        assert module.wide_kernel("one_read") is None
    finally:
        monkeypatch.undo()
        compiled.cache_clear()
        module.wide_kernel.cache_clear()
