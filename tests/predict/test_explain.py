import numpy as np
import pytest
import torch

from lorascope.core.batch import collate
from lorascope.errors import DataError
from lorascope.predict.explain import explain
from lorascope.symmetry import act, random_gauges
from lorascope.train import fit
from lorascope.train.data import label_loras
from tests.core.test_magnitudes import with_magnitudes
from tests.planted import TARGETS, planted, planted_loras

DATA = planted(200)
LORAS = planted_loras(4, seed=9)[0]


@pytest.fixture(scope="module", params=["score", "sources"])
def fusion(request):
    return fit(DATA, request.param, model="fusion", trust=False)


def one(predictor, lora=LORAS[0]):
    return collate([lora], predictor.signature)


def test_the_parts_of_fusion_sum_to_the_prediction_minus_the_baseline(fusion):
    for lora in LORAS:
        found = explain(fusion, one(fusion, lora))
        assert found.method == "integrated"
        moved = abs(found.prediction - found.baseline) + 1e-3
        assert abs(found.rest) < 1e-3 * moved
        assert [part.layer for part in found.parts] == list(fusion.signature.names)
        for part in found.parts:
            assert sum(part.directions) + part.sizes == pytest.approx(part.value, abs=1e-9)
            assert part.magnitudes is None


def test_the_prediction_that_is_explained_is_the_one_that_is_given(fusion):
    said = fusion.predict(LORAS[0])[0]
    found = explain(fusion, one(fusion))
    if fusion.target.kind == "regression":
        assert found.prediction == pytest.approx(said.value, rel=1e-4)
    else:
        chance = 1 / (1 + np.exp(-found.prediction))
        assert chance == pytest.approx(said.probabilities[found.output], rel=1e-3)


def test_an_explanation_does_not_depend_on_the_gauge(fusion):
    batch = one(fusion)
    turned = act(random_gauges(batch, generator=torch.Generator().manual_seed(0)), batch)
    a, b = explain(fusion, batch), explain(fusion, turned)
    for x, y in zip(a.parts, b.parts, strict=True):
        assert x.value == pytest.approx(y.value, abs=2e-3)
        np.testing.assert_allclose(x.directions, y.directions, atol=5e-3)


def test_the_numbers_of_a_layer_are_shared_out_among_its_directions_exactly(fusion):
    """A linear answer in the cores alone: the directions' parts are those of each triple."""
    model = fusion.model
    batch = one(fusion)
    views = model.cores(batch)
    from lorascope.predict.explain import _shared_out

    zero = torch.zeros(model.get_buffer("sizes").shape[0])
    slopes = [torch.randn(view.shape[1]) for view in views]
    parts = _shared_out(model, batch, [*slopes, zero], [zero])
    whole = sum(float(slope @ view[0]) for slope, view in zip(slopes, views, strict=True))
    assert sum(part.value for part in parts) == pytest.approx(whole, rel=1e-4, abs=1e-4)
    assert [part.sizes for part in parts] == [0.0] * len(parts)


def test_magnitudes_belong_to_their_layer():
    draw = torch.Generator().manual_seed(0)
    loras = [with_magnitudes(lora, draw) for lora in planted_loras(120)[0]]
    told = [float(lora.side["block.1.q.dora_magnitude"].tensor[0]) for lora in loras]
    data = label_loras(loras, {"score": told}, TARGETS[1:2], groups=[str(i) for i in range(120)])
    predictor = fit(data, "score", model="fusion", trust=False)
    found = explain(predictor, collate(loras[:1], predictor.signature))
    moved = abs(found.prediction - found.baseline) + 1e-3
    assert abs(found.rest) < 1e-3 * moved
    assert found.largest(1)[0].layer == "block.1.q"
    assert abs(found.largest(1)[0].value) > 0.5 * moved
    for part in found.parts:
        whole = sum(part.directions) + part.sizes + part.magnitudes
        assert whole == pytest.approx(part.value, abs=1e-9)
    assert abs(found.largest(1)[0].magnitudes) > 0.4 * moved
    assert found.to_json()["parts"][0]["magnitudes"] == found.parts[0].magnitudes


def test_other_models_are_explained_by_leaving_layers_out():
    predictor = fit(DATA, "score", model="ridge", trust=False)
    batch = one(predictor)
    found = explain(predictor, batch)
    assert found.method == "left_out"
    without = LORAS[0].select([name for name in LORAS[0] if name != found.parts[1].layer])
    zeroed = collate([without], predictor.signature, allow_missing=True)
    said = [float(predictor.outputs(x)[0, 0]) for x in (batch, zeroed)]
    assert found.prediction == pytest.approx(said[0], rel=1e-4)
    assert found.parts[1].value == pytest.approx(said[0] - said[1], rel=1e-3)
    assert len(found.largest(2)) == 2
    assert abs(found.largest(1)[0].value) == max(abs(part.value) for part in found.parts)
    assert all(len(part.directions) == batch.rank for part in found.parts)
    assert found.to_json()["rest"] == found.rest


@pytest.mark.parametrize("target", ["score", "sources"])
def test_of_a_model_that_is_linear_in_the_update_all_parts_add_up(target):
    predictor = fit(DATA, target, model="kernel_raw", trust=False)
    for lora in LORAS:
        found = explain(predictor, one(predictor, lora))
        moved = sum(abs(part.value) for part in found.parts)
        assert abs(found.rest) < 1e-3 * moved
        for part in found.parts:
            assert sum(part.directions) == pytest.approx(part.value, abs=1e-3 * moved)
            assert (part.sizes, part.magnitudes) == (None, None)


def test_what_cannot_be_explained_is_refused(fusion):
    with pytest.raises(DataError, match="found 2 LoRAs"):
        explain(fusion, collate(LORAS[:2], fusion.signature))
    with pytest.raises(DataError, match="no class 'purple'"):
        explain(fusion, one(fusion), "purple")
