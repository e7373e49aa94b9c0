"""Cores: against dense formulas, inner products as cosines, limits on their number."""

import pytest
import torch

from lorascope.core import GroupBatch, LayerShape, LoRA, Signature, collate, gram
from lorascope.models.cores import CORE_NUMBERS, DIRECTION_NUMBERS, Cores, default_width
from lorascope.symmetry import assert_invariant
from lorascope.symmetry.roots import gram_roots
from tests.models.signs import signed_loras

BATCH = signed_loras(40)[0].to(dtype=torch.float64)


def fitted(width: int) -> Cores:
    cores = Cores(BATCH.signature, width).double()
    cores.fit(BATCH)
    return cores


def unit_updates(width_of: str) -> list[torch.Tensor]:
    """Dense updates of one layer of all LoRAs, divided by their norm."""
    updates = [lora[width_of].dense() for lora in BATCH.unbind()]
    return [w / w.norm() for w in updates]


def test_a_far_gauge_leaves_cores_in_single_precision() -> None:
    cores, batch = fitted(5).float(), BATCH.to(dtype=torch.float32)
    far = torch.ones(batch.rank, 1)
    far[0] = 1000.0
    other = batch.with_groups([GroupBatch(g.u * far, g.v / far) for g in batch.groups])
    for near, turned in zip(cores(batch), cores(other), strict=True):
        assert float(near.norm()) > 0
        torch.testing.assert_close(turned, near, rtol=1e-3, atol=1e-3)


def test_views_equal_their_dense_formulas() -> None:
    cores = fitted(5)
    views = cores(BATCH)
    # layers of one shape group stand together: 0.q and 1.q, then 0.v
    p, q = cores.get_buffer("p_1")[0], cores.get_buffer("q_1")[0]
    for row, w in enumerate(unit_updates("0.v")):
        core = p.T @ w @ q / 3**0.5
        torch.testing.assert_close(views.core[row, -core.numel() :], core.flatten())
        for view, side, square in ((views.left, p, w @ w.T), (views.right, q, w.T @ w)):
            c = side.shape[1]
            i, j = torch.triu_indices(c, c)
            scale = torch.where(i == j, 1.0, 2**0.5)
            expected = (side.T @ square @ side / square.norm())[i, j] * scale / 3**0.5
            torch.testing.assert_close(view[row, -len(i) :], expected)


def test_with_all_directions_inner_products_are_cosines() -> None:
    core, left, right = fitted(12)(BATCH)
    torch.testing.assert_close(core @ core.T, gram(BATCH, kind="cosine"))
    for view in (left, right):
        torch.testing.assert_close(view.square().sum(1), torch.ones(BATCH.size).double())


def test_few_directions_hold_most_of_what_the_updates_share() -> None:
    core = fitted(3)(BATCH).core
    assert float(core.norm(dim=1).min()) > 0.9


@pytest.mark.parametrize("view", ["core", "left", "right"])
def test_views_do_not_depend_on_the_gauge(view: str) -> None:
    cores = fitted(4)
    assert_invariant(lambda batch: getattr(cores(batch), view), BATCH, tolerance=1e-9)


def test_missing_layers_are_zero_and_the_others_share_the_norm() -> None:
    cores = fitted(12)
    lora = BATCH.unbind()[0]
    partial = collate([lora.select(["0.v"]), LoRA({})], BATCH.signature, allow_missing=True)
    core = cores(partial.to(dtype=torch.float64)).core
    size = cores.get_buffer("p_1").shape[2] * cores.get_buffer("q_1").shape[2]
    assert not core[0, :-size].any()
    assert float(core[0].norm()) == pytest.approx(1.0)
    assert not core[1].any()


def test_an_update_that_cancels_is_no_direction() -> None:
    lora = BATCH.unbind()[0]
    nothing = lora + (-1.0 * lora)
    for dtype in (torch.float32, torch.float64):
        cores = fitted(4).to(dtype)
        assert not cores(collate([nothing]).to(dtype=dtype)).core.any()


def test_the_roots_that_are_read_are_those_of_the_batch() -> None:
    seen = fitted(5).read(BATCH)
    assert torch.equal(seen.roots.joined, gram_roots(BATCH).joined)
    assert [x.shape[3] for x, _ in seen.sides] == [5, 5]


def test_a_gauge_changes_little_in_float32() -> None:
    cores = fitted(5).float()
    for view in ("core", "left", "right"):
        single = BATCH.to(dtype=torch.float32)
        assert_invariant(lambda b, view=view: getattr(cores(b), view), single, tolerance=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_factors_are_read_as_they_are(dtype: torch.dtype) -> None:
    """Products with directions in bfloat16 carry 8 bits; float16 is widened."""
    cores = fitted(5).float()
    narrow = BATCH.to(dtype=dtype)
    exact = cores.double()(narrow.to(dtype=torch.float64))
    cores.float()
    limit = 1e-2 if dtype == torch.bfloat16 else 1e-5
    for one, other in zip(cores(narrow), exact, strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < limit


def test_the_number_of_directions_is_limited() -> None:
    def width(layers: int, n: int, m: int) -> int:
        return default_width(Signature(tuple(LayerShape(f"{i}", n, m) for i in range(layers))))

    assert width(8, 96, 96) == 48
    assert width(64, 780, 780) ** 2 * 64 <= CORE_NUMBERS
    assert width(56, 2048, 3072) * 56 * 5120 <= DIRECTION_NUMBERS
    assert width(500, 4096, 4096) == 4
