import pytest
import torch
from peft import PeftModel

from lorascope.io import write_lora
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted, join, untrained
from lorascope.zoo.engine.language.alone import sequence_loss
from lorascope.zoo.engine.language.evaluate import weighted_loss
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.layout import LayerShape, Layout
from tests.zoo.conftest import make_base, make_job

SPEC = AdapterSpec(("q_proj",), rank=2, alpha=6)
LAYOUT = Layout.of({"x.q_proj": LayerShape(5, 7), "y.q_proj": LayerShape(3, 7)}, [SPEC])


@pytest.fixture
def fitted():
    rows = torch.randn(3, sum(LAYOUT.sizes), generator=torch.Generator().manual_seed(0))
    flags = torch.tensor([True, False, True])
    return Fitted((SPEC,) * 3, LAYOUT, rows, torch.zeros(3), torch.arange(3), flags)


def test_a_lora_has_the_scale_folded_in(fitted):
    lora = fitted.to_lora(1, base="tiny")
    for name, pair in lora.layers.items():
        expected = 3 * fitted.B[name][1] @ fitted.A[name][1]
        assert torch.allclose(pair.dense(), expected, rtol=1e-5, atol=1e-5)
    scale = lora.provenance.scales["x.q_proj"]
    assert (scale.alpha, scale.rank, scale.factor, scale.rule) == (6, 2, 3, "alpha/r")
    assert lora.provenance.base == "tiny"


def test_select_and_join(fitted):
    again = join([fitted.select([2]), fitted.select([0, 1])]).select([1, 2, 0])
    assert torch.equal(again.rows, fitted.rows)
    assert again.finite.tolist() == [True, False, True]
    assert len(again) == 3


def test_an_adapter_is_cut_to_its_own_ranks():
    small = AdapterSpec(("q_proj",), rank=1, alpha=6, rslora=True)
    large = AdapterSpec(("q_proj",), rank=2, alpha=6, rank_pattern={"x.q_proj": 3})
    shapes = {"x.q_proj": LayerShape(5, 8, (2, 2)), "y.q_proj": LayerShape(3, 7)}
    layout = Layout.of(shapes, [small, large])
    rows = layout.first([small, large], [1, 2], torch.float32)
    ones = torch.ones(2)
    pair = Fitted((small, large), layout, rows, ones, ones.long(), ones.bool())
    ranks = [[layer.rank for layer in pair.to_lora(i).layers.values()] for i in range(2)]
    assert ranks == [[1, 1], [3, 2]]
    lora = pair.select([1]).to_lora(0)
    assert lora["x.q_proj"].kernel == (2, 2)
    assert lora.provenance.config["rank_pattern"] == {"x.q_proj": 3}
    assert lora.provenance.scales["x.q_proj"].factor == 2
    assert torch.equal(lora["x.q_proj"].v, pair.A["x.q_proj"][1].mT)


def test_the_magnitudes_of_dora_stand_beside():
    spec = AdapterSpec(("q_proj",), rank=2, alpha=6, dora=True)
    norms = {name: torch.arange(1.0, 1 + shape.n) for name, shape in LAYOUT.shapes.items()}
    lora = untrained(spec, Layout.of(LAYOUT.shapes, [spec], norms)).to_lora(0)
    assert torch.equal(lora.side["y.q_proj.dora_magnitude"].tensor, norms["y.q_proj"])
    assert lora.provenance.outcome == "part"
    assert lora.provenance.left[0].startswith("dora_rows: 2 layers")
    assert lora.provenance.config["use_dora"]


def test_an_untrained_adapter_changes_nothing():
    assert float(untrained(SPEC, LAYOUT).to_lora(0).norm()) == 0


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rslora": True},
        {"dora": True},
        {"rank_pattern": {"layers.1.mlp.down_proj": 1}, "alpha_pattern": {"q_proj": 3}},
        {"dora": True, "rslora": True, "rank_pattern": {"q_proj": 3}},
    ],
)
def test_peft_loads_an_exported_adapter_and_answers_alike(tmp_path, changes):
    model = make_base(dtype=torch.float32)
    spec = AdapterSpec(("q_proj", "down_proj"), rank=2, alpha=6).changed(changes)
    with torch.enable_grad():
        fitted = fit_adapters(model, spec, [make_job(s, learning_rate=0.06) for s in range(2)])
    asked = make_job(9)
    expected = weighted_loss(model, spec, fitted, asked.tokens, asked.weights)[1]
    alone = weighted_loss(model, spec, None, asked.tokens, asked.weights)[0]
    assert abs(float(expected - alone)) > 1e-3
    write_lora(fitted.to_lora(1), tmp_path / "adapter", base="tiny")
    loaded = PeftModel.from_pretrained(model, tmp_path / "adapter")
    found = sequence_loss(loaded, asked.tokens, asked.weights)
    assert torch.allclose(found, expected, rtol=1e-5)
