"""MVProbe: the four views against dense matrices, sizes, parameters."""

import pytest
import torch

from lorascope.core import collate
from lorascope.models.mvprobe import MVProbe, Views, view
from tests.conftest import random_lora

SMALL = {"probes": 3, "hidden": 4, "width": 5, "head": 8}


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(4)])


def test_a_view_is_its_dense_formula(generator):
    outer, inner, maps = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 8), (2, 3), (8, 4))
    )
    dense = outer.T @ inner
    expected = maps.T @ dense / dense.square().mean().sqrt()
    torch.testing.assert_close(view(outer, inner, maps), expected)
    assert view(0 * outer, inner, maps).abs().max() == 0


def test_the_four_views_are_those_of_the_dense_update(generator):
    views = Views(2, 8, 6, probes=3, hidden=4, width=5).double()
    u, v = (torch.randn(2, 1, 2, x, generator=generator, dtype=torch.float64) for x in (8, 6))
    with torch.no_grad():
        views.biases.normal_(generator=generator)
    expected = torch.zeros(2, 5, dtype=torch.float64)
    for layer in range(2):
        x = u[layer, 0].T @ v[layer, 0]
        a, b, c, d = (probe[layer, 0] for probe in views.probes)
        for index, dense in enumerate((x @ a, x.T @ b, x @ x.T @ c, x.T @ x @ d)):
            standard = dense / dense.square().mean().sqrt()
            encoded = (
                views.maps[index][layer, 0].T @ standard + views.biases[index, layer, 0]
            ).relu()
            expected[layer] += encoded.flatten() @ views.encode[index, layer]
    torch.testing.assert_close(views(u, v)[0], expected)


def test_the_size_is_read_only_where_asked(batch):
    bare, sized = (
        MVProbe(batch.signature, 2, rank=3, sizes=sizes, **SMALL).double().eval()
        for sizes in (False, True)
    )
    larger = batch.with_groups([type(g)(3 * g.u, g.v) for g in batch.groups])
    for model in (bare, sized):
        model.prepare(batch)
    torch.testing.assert_close(bare(larger), bare(batch))
    assert not torch.allclose(sized(larger), sized(batch), atol=1e-3)


def test_parameter_count(batch):
    c, h, d = 3, 4, 5
    model = MVProbe(batch.signature, 2, rank=3, **SMALL)
    ends = 8 * 2 + 5 + 4 + 6 * 3 + 18
    views = 2 * (c + h) * ends + 4 * 4 * (h + h * c * d)
    assert model.parameter_count == views + (4 * d + 3) * 8 + 9 * 2
