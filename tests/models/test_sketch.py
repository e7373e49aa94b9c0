"""The fixed sketch: against dense matrices, inner products, what it learns."""

import pytest
import torch

from lorascope.models.sketch import Sketch, SketchNumbers, unit_norm
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(160)
TRAIN, TEST = slice(0, 110), slice(110, 160)


def numbers(**options):
    options = {"size": 6, "rank": 3, "unit_norm": True, "draw": 0} | options
    return SketchNumbers(BATCH.signature, **options)


@pytest.mark.parametrize("unit", [True, False])
def test_it_is_the_dense_formula(unit):
    sketch = numbers(unit_norm=unit)
    lora = BATCH.unbind()[3]
    found = sketch.sketch(BATCH)[3].view(3, 6, 6)
    for index, group in enumerate(BATCH.signature.groups()):
        left, right = (sketch.get_buffer(f"{side}_{index}") for side in ("left", "right"))
        for place, layer in enumerate(group.indices):
            dense = lora[BATCH.signature.names[layer]].dense()
            dense = dense / dense.norm() if unit else dense
            expected = left[place].T @ dense @ right[place]
            torch.testing.assert_close(found[layer], expected, rtol=1e-4, atol=1e-5)


def test_inner_products_are_kept_on_average():
    batch = unit_norm(BATCH.select(slice(0, 2)))
    first, second = (lora["0.q"].dense().flatten() for lora in batch.unbind())
    size = 6
    found = []
    for draw in range(300):
        z = numbers(draw=draw, unit_norm=False).sketch(batch).view(2, 3, size * size)
        place = list(BATCH.signature.names).index("0.q")
        found.append(float(z[0, place] @ z[1, place]))
    expected = float(first @ second)
    error = torch.tensor(found).std() / len(found) ** 0.5
    assert abs(sum(found) / len(found) - expected) < 4 * float(error)


def test_directions_are_found_and_sizes_beside():
    model = Sketch(BATCH.signature, 3, rank=3, size=6)
    model.fit(BATCH.select(TRAIN), CLASSES[TRAIN], kind="multilabel")
    out = model(BATCH.select(TEST))
    assert float(((out > 0) == (CLASSES[TEST] > 0.5)).float().mean()) > 0.9
    model = Sketch(BATCH.signature, 1, rank=3, size=6)
    model.fit(BATCH.select(TRAIN), SIZE[TRAIN], kind="regression")
    error = (model(BATCH.select(TEST)) - SIZE[TEST]).square().mean()
    assert float(error) < 0.3 * float(SIZE[TEST].var())


def test_each_layer_weighs_the_same():
    sketch = numbers()
    sketch.fit(BATCH)
    z = sketch(BATCH)[:, : 3 * 36].view(160, 3, 36)
    total = z.var(0, correction=0).sum(1)
    torch.testing.assert_close(total, torch.ones(3), rtol=1e-3, atol=1e-3)


def test_numbers_learned():
    model = Sketch(BATCH.signature, 2, rank=3, size=4)
    assert model.get_buffer("weights").shape == (3 * 16 + 3 * 4 + 1, 2)
    assert Sketch(BATCH.signature, 2, rank=3, size=4, unit_norm=False).numbers.width == 3 * 16
