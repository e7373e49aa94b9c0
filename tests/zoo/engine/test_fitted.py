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


def test_an_untrained_adapter_changes_nothing():
    assert float(untrained(SPEC, LAYOUT).to_lora(0).norm()) == 0


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_loads_an_exported_adapter_and_answers_alike(tmp_path, rslora):
    model = make_base(dtype=torch.float32)
    spec = AdapterSpec(("q_proj", "down_proj"), rank=2, alpha=6, rslora=rslora)
    with torch.enable_grad():
        fitted = fit_adapters(model, spec, [make_job(s, learning_rate=0.02) for s in range(2)])
    asked = make_job(9)
    expected = weighted_loss(model, spec, fitted, asked.tokens, asked.weights)[1]
    alone = weighted_loss(model, spec, None, asked.tokens, asked.weights)[0]
    assert abs(float(expected - alone)) > 1e-3
    write_lora(fitted.to_lora(1), tmp_path / "adapter", base="tiny")
    loaded = PeftModel.from_pretrained(model, tmp_path / "adapter")
    found = sequence_loss(loaded, asked.tokens, asked.weights)
    assert torch.allclose(found, expected, rtol=1e-5)
