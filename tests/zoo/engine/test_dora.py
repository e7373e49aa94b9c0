import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.dora import row_norms, with_gains
from lorascope.zoo.engine.layout import LayerShape, Layout

N, M, RANK = 5, 7, 3


def draw(*shape):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape))
    )


def test_norms_are_those_of_the_dense_sum():
    weight, A, B = draw(N, M), draw(2, RANK, M), draw(2, N, RANK)
    found = row_norms(weight, A, B, weight.norm(dim=1))
    assert torch.allclose(found, (weight + B @ A).norm(dim=2), rtol=1e-12)


def test_a_row_that_vanishes_has_no_norm():
    weight = draw(N, M)
    B = torch.eye(N, dtype=torch.float64)[None]
    assert float(row_norms(weight, -weight[None], B, weight.norm(dim=1)).max()) < 1e-6


def layout_and_weight(dora=True):
    spec, weight = AdapterSpec(("q",), rank=RANK, alpha=RANK, dora=dora), draw(N, M)
    layout = Layout.of({"q": LayerShape(N, M)}, [spec], {"q": weight.norm(dim=1)})
    return spec, layout, weight


def test_gains_of_a_fresh_adapter_are_zero():
    spec, layout, weight = layout_and_weight()
    rows = layout.first([spec], [3], torch.float64)
    gain = layout.unpack(with_gains(layout, rows, lambda _: weight))["q"].magnitude
    assert float(gain.abs().max()) < 1e-12


def test_gains_follow_magnitudes_and_no_gradient_flows_through_the_norm():
    _, layout, weight = layout_and_weight()
    rows = draw(2, layout.parameters).requires_grad_()
    A, B, magnitude = layout.unpack(rows)["q"]
    out = with_gains(layout, rows, lambda _: weight)
    norm = (weight + B @ A).norm(dim=2).detach()
    gain = layout.unpack(out)["q"].magnitude
    assert torch.allclose(gain, magnitude / norm - 1, rtol=1e-12)
    (gradient,) = torch.autograd.grad(gain.sum(), rows)
    parts = layout.unpack(gradient)["q"]
    assert torch.allclose(parts.magnitude, 1 / norm)
    assert not parts.A.any()
    assert not parts.B.any()


def test_without_dora_rows_stay_as_they_are():
    _, layout, weight = layout_and_weight(dora=False)
    rows = draw(2, layout.parameters)
    assert with_gains(layout, rows, lambda _: weight) is rows
