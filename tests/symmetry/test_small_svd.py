import pytest
import torch

from lorascope.symmetry import small_svd as module
from lorascope.symmetry.small_svd import small_svd

needs_kernel = pytest.mark.skipif(
    module.wide_kernel("small_svd") is None,
    reason="no C compiler, or a processor that it is not for",
)


def some(count: int, rank: int) -> torch.Tensor:
    return torch.randn(count, rank, rank, generator=torch.Generator().manual_seed(rank)).double()


def alone(a: torch.Tensor) -> torch.Tensor:
    """Values of matrices that are multiplied with no other."""
    return small_svd(a, torch.eye(a.shape[-1]).double().expand_as(a))


@pytest.mark.parametrize("least", [0, 10_000])
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 8, 9])
def test_they_are_those_of_a_whole_decomposition(rank, least, monkeypatch):
    monkeypatch.setattr(module, "LEAST", least)
    a = some(600, rank).view(2, 300, rank, rank)
    u, v = a[0], a[1]
    torch.testing.assert_close(
        small_svd(u, v), torch.linalg.svdvals(u @ v.mT), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(alone(a), torch.linalg.svdvals(a), rtol=1e-6, atol=1e-7)
    assert small_svd(a[:0], a[:0]).shape == (0, 300, rank)


@needs_kernel
@pytest.mark.parametrize("count", [1, 7, 8, 601])
def test_the_kernel_keeps_small_values(count, monkeypatch):
    monkeypatch.setattr(module, "LEAST", 0)
    u, v = (torch.linalg.qr(some(count, 4) + torch.eye(4) * shift).Q for shift in (0, 1))
    wanted = torch.tensor([1e3, 1.0, 1.0, 1e-9]).double().expand(count, 4)
    found = small_svd(u * wanted.unsqueeze(1), v.mT)
    torch.testing.assert_close(found[:, :3], wanted[:, :3], rtol=1e-10, atol=0)
    torch.testing.assert_close(found[:, 3], wanted[:, 3], rtol=1e-3, atol=0)


@needs_kernel
def test_zero_columns_and_alike_columns_by_the_kernel(monkeypatch):
    monkeypatch.setattr(module, "LEAST", 0)
    a = some(9, 4)
    a[0], a[1, :, 1], a[2, :, 3] = 0, 0, a[2, :, 0]
    torch.testing.assert_close(alone(a), torch.linalg.svdvals(a), rtol=1e-9, atol=1e-9)
    a[3, 0, 0] = torch.nan
    assert alone(a).isfinite().all(1).tolist() == [True] * 3 + [False] + [True] * 5
