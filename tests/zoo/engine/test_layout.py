import pytest
import torch

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.draws import first_factors
from lorascope.zoo.engine.layout import LayerShape, Layout

SHAPES = {"x.q_proj": LayerShape(5, 7), "y.v_proj": LayerShape(3, 8, (2, 2))}
SMALL = AdapterSpec(("q_proj", "v_proj"), rank=2, alpha=6)
MIXED = AdapterSpec(
    ("q_proj", "v_proj"), rank=1, alpha=2, rank_pattern={"v_proj": 4}, alpha_pattern={"v_proj": 2}
)
NORMS = {"x.q_proj": torch.arange(1.0, 6.0), "y.v_proj": torch.ones(3)}


def test_a_layout_goes_there_and_back():
    layout = Layout.of(SHAPES, [SMALL, MIXED])
    rows = torch.randn(3, layout.parameters)
    factors = layout.unpack(rows)
    assert factors["x.q_proj"].A.shape == (3, 2, 7)
    assert factors["y.v_proj"].B.shape == (3, 3, 4)
    pieces = [f.flatten(1) for layer in factors.values() for f in layer if f is not None]
    assert torch.equal(torch.cat(pieces, 1), rows)


def test_adapters_start_at_their_own_a_and_zero_b():
    layout = Layout.of(SHAPES, [SMALL, MIXED])
    factors = layout.unpack(layout.first([SMALL, MIXED], [4, 9], torch.float64))
    small, mixed = (
        first_factors(4, SHAPES, 2),
        first_factors(9, SHAPES, {"x.q_proj": 1, "y.v_proj": 4}),
    )
    for name, (A, B, magnitude) in factors.items():
        for i, own in enumerate((small[name], mixed[name])):
            assert torch.equal(A[i, : len(own)], own.double())
            assert not A[i, len(own) :].any()
        assert not B.any()
        assert magnitude is None


def test_magnitudes_start_at_the_norms_of_the_frozen_rows():
    spec = AdapterSpec(("q_proj", "v_proj"), rank=2, alpha=6, dora=True)
    layout = Layout.of(SHAPES, [spec], NORMS)
    rows = layout.first([spec] * 2, [1, 2], torch.float32)
    assert rows.shape == (2, layout.parameters)
    for name, factors in layout.unpack(rows).items():
        assert torch.equal(factors.magnitude, NORMS[name].expand(2, -1))


def test_scales_follow_the_patterns():
    layout = Layout.of(SHAPES, [SMALL, MIXED])
    assert layout.scales([SMALL, SMALL], torch.float32).shape[0] == 1
    factors = layout.unpack(layout.scales([SMALL, MIXED], torch.float64))
    assert factors["x.q_proj"].B[:, 0, 0].tolist() == [3, 2]
    assert factors["y.v_proj"].B[:, 0, 0].tolist() == [3, 0.5]
    assert (factors["x.q_proj"].A == 1).all()


def test_adapters_that_do_not_go_together_are_refused():
    other = AdapterSpec(("q_proj", "v_proj"), rank=2, alpha=6, dora=True)
    with pytest.raises(TrainingError, match="DoRA"):
        Layout.of(SHAPES, [SMALL, other], NORMS)
