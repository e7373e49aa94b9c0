"""Views by the kernel in C and by torch: the same, of other widths and ranks, and missing updates."""

import pytest
import torch

from lorascope.models import views as module
from lorascope.models.views import make_views
from lorascope.symmetry.roots import Roots

needs_kernel = pytest.mark.skipif(
    module.wide_kernel("views") is None,
    reason="no C compiler, or a processor that it is not for",
)
GROUPS = {
    "usual": (4, [(3, 16, 16), (2, 16, 16)]),
    "widths": (3, [(2, 5, 20), (1, 48, 33), (2, 1, 17)]),
    "one": (1, [(1, 3, 4)]),
    "high": (16, [(2, 18, 48)]),
    "four": (4, [(2, 7, 12), (1, 32, 9)]),
}


def some(name: str, b: int = 6) -> tuple[Roots, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Roots and projections of nothing in particular; of LoRA 1 the first layer has no update."""
    rank, groups = GROUPS[name]
    draw = torch.Generator().manual_seed(0)
    sides = [
        tuple(torch.randn(layers, b, rank, width, generator=draw) for width in (c, d))
        for layers, c, d in groups
    ]
    layers = sum(group[0] for group in groups)
    u, v = (torch.randn(layers, b, rank, rank, generator=draw).double().triu() for _ in range(2))
    v[0, 1] = 0
    return Roots(u, v, torch.float32), sides


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GROUPS)
def test_the_kernel_finds_what_torch_finds(name, threads, monkeypatch):
    roots, sides = some(name)
    expected = make_views(roots, sides)
    monkeypatch.setattr(module, "LEAST", 0)
    monkeypatch.setattr(module, "_by_torch", None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = make_views(roots, sides)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected)
    first = sides[0][0].shape[3] * sides[0][1].shape[3]
    assert not found.core[1, :first].any()


@pytest.mark.parametrize("name", GROUPS)
def test_blocks_of_loras_change_nothing(name, monkeypatch):
    roots, sides = some(name)
    whole = make_views(roots, sides)
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 1)
    torch.testing.assert_close(make_views(roots, sides), whole)


@needs_kernel
def test_what_is_no_number_stays_in_its_lora(monkeypatch):
    monkeypatch.setattr(module, "LEAST", 0)
    roots, sides = some("usual")
    sides[1][0][1, 2, 3, 5] = torch.nan
    for view in make_views(roots, sides)[:2]:
        assert view.isnan().any(1).nonzero().flatten().tolist() == [2]


@needs_kernel
def test_higher_ranks_and_other_types_go_through_torch(monkeypatch):
    monkeypatch.setattr(module, "LEAST", 0)
    monkeypatch.setattr(module, "wide_kernel", None)
    roots, sides = some("usual")
    wide = [(x.double(), y.double()) for x, y in sides]
    torch.testing.assert_close(
        make_views(roots, wide).core.float(),
        module._by_torch(roots, sides, module._weigh(roots, torch.float64)).core,
    )
    monkeypatch.setitem(GROUPS, "higher", (17, [(1, 4, 4)]))
    assert make_views(*some("higher")).core.shape == (6, 16)
