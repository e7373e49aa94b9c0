"""The timing of the default model: its count, its near rows, and that it prints what it measured."""

import torch
from speed.gl_net import BATCH, RANK, random_batch
from speed.prediction import random_predictor

from lorascope.core import LayerShape, Signature
from lorascope.models.fusion import Fusion
from lorascope.symmetry.roots import FARTHEST_SPAN, gram
from lorascope.symmetry.small_cholesky import small_cholesky
from speed import default_model

SIGNATURE = Signature((LayerShape("a", 48, 32), LayerShape("b", 32, 48), LayerShape("c", 48, 32)))


def test_the_count_is_that_of_the_products():
    model = random_predictor("fusion", SIGNATURE, RANK).model
    assert isinstance(model, Fusion)
    found = default_model.count(model)
    c, d = 48, 32  # as many directions as each side has, to 48
    layers, both = 3, 3 * (48 + 32)
    assert found.projections == BATCH * 2 * RANK * layers * (48 * c + 32 * d)
    assert found.grams == BATCH * RANK * (RANK + 1) * both
    assert found.squares == BATCH * layers * RANK * (2 * c * d + c * (c + 1) + d * (d + 1))
    assert found.components == BATCH * 2 * model.get_buffer("components").numel()


def test_three_u_in_ten_are_near():
    batch = default_model.with_near_rows(random_batch(SIGNATURE))
    u, v = (
        torch.cat([small_cholesky(gram(x).double(), FARTHEST_SPAN)[1] for x in side]).double()
        for side in ([g.u for g in batch.groups], [g.v for g in batch.groups])
    )
    assert abs(float(1 - u.mean()) - default_model.NEAR) < 0.1
    assert float(v.mean()) > 0.9


def test_it_prints_all_ratios(capsys):
    default_model.measure("small", SIGNATURE, rounds=1)
    printed = capsys.readouterr().out
    for name in ("float32", "float32, near rows", "bfloat16"):
        assert f"whole forward, {name}" in printed
    assert printed.count("x the read") == 3
    assert "count, bfloat16" in printed
