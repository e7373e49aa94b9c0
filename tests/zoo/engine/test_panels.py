"""Frozen weights in panels; skipped where no C compiler works."""

import pytest
import torch

from lorascope.zoo.engine.language import quick
from lorascope.zoo.engine.panels import in_panels


@pytest.mark.skipif(quick.library() is None, reason="no C compiler")
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 64), (5, 120), (1, 8)])
def test_every_number_stands_once_and_those_of_a_tile_together(inputs, outputs):
    weight = torch.arange(inputs * outputs, dtype=torch.float64).view(inputs, outputs)
    found = in_panels(weight, quick.library())
    assert found.dtype == torch.float32
    assert sorted(found.flatten().tolist()) == weight.flatten().tolist()
    runs = found.flatten().view(-1, 8)  # no tile is narrower
    assert torch.equal(runs.diff(dim=1), torch.ones(len(runs), 7))
    assert torch.equal(runs[:, 0] % 8, torch.zeros(len(runs)))
    assert torch.equal(runs[0], torch.arange(8.0))
    assert torch.equal(runs[-1], weight[-1, -8:].float())
