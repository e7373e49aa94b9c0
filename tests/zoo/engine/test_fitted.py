import pytest
import torch
from peft import PeftModel

from lorascope.io import write_lora
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.draws import first_factors
from lorascope.zoo.engine.fitted import Fitted, Layout, join, untrained
from lorascope.zoo.engine.language.alone import sequence_loss
from lorascope.zoo.engine.language.evaluate import weighted_loss
from lorascope.zoo.engine.language.fit import fit_adapters
from tests.zoo.conftest import make_base, make_job

SPEC = AdapterSpec(("q_proj",), rank=2, alpha=6)
LAYOUT = Layout({"x.q_proj": (5, 7), "y.q_proj": (3, 7)}, rank=2)


@pytest.fixture
def fitted():
    rows = torch.randn(3, sum(LAYOUT.sizes), generator=torch.Generator().manual_seed(0))
    flags = torch.tensor([True, False, True])
    return Fitted(SPEC, LAYOUT, rows, torch.zeros(3), torch.arange(3), flags)


def test_the_layout_goes_there_and_back(fitted):
    assert fitted.A["y.q_proj"].shape == (3, 2, 7)
    assert fitted.B["x.q_proj"].shape == (3, 5, 2)
    pieces = [factor.flatten(1) for pair in LAYOUT.unpack(fitted.rows).values() for factor in pair]
    assert torch.equal(torch.cat(pieces, 1), fitted.rows)


def test_adapters_start_at_their_own_a_and_zero_b():
    rows = LAYOUT.first([4, 9], torch.float64)
    factors = LAYOUT.unpack(rows)
    for name, (A, B) in factors.items():
        assert torch.equal(A[1], first_factors(9, LAYOUT.shapes, 2)[name].double())
        assert not torch.equal(A[0], A[1])
        assert not B.any()


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
