from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.core.batch import collate
from lorascope.core.lora import LoRA, Provenance, Side
from lorascope.core.low_rank import LowRank
from lorascope.core.signature import LayerShape, Signature
from lorascope.errors import DataError, LayerError, RankError, SignatureError
from lorascope.models.build import build_model
from lorascope.predict import Predictor, Scaler, load_predictor
from lorascope.train.data import label_loras
from lorascope.train.fit import fit
from tests.core.test_magnitudes import with_magnitudes
from tests.planted import BASE, CLASSES, SHAPES, TARGETS, planted_loras

SIGNATURE = Signature(tuple(LayerShape(name, n, m) for name, (n, m) in SHAPES.items()), BASE)
SOURCES, SCORE, KIND = TARGETS
PLAIN = planted_loras(120)[0]
REPORT = {"metrics": {"test": {"rmse": 0.25}}}


def predictor(target=SCORE, model="svd", **fields):
    network = build_model(model, SIGNATURE, target.out_features, rank=3, seed=0)
    return Predictor(network, target, report=REPORT, **fields)


@pytest.fixture(scope="module")
def loras():
    return planted_loras(5)[0]


def test_a_value_comes_in_the_units_of_the_label(loras):
    plain = [p.value for p in predictor().predict(loras)]
    scaled = [p.value for p in predictor(scaler=Scaler(100.0, 10.0)).predict(loras)]
    np.testing.assert_allclose(scaled, [100 + 10 * value for value in plain])


def test_multilabel_gives_one_probability_per_class(loras):
    found = predictor(SOURCES)
    with torch.no_grad():
        expected = found.model.eval()(collate(loras, SIGNATURE)).sigmoid()
    for row, prediction in zip(expected.tolist(), found.predict(loras), strict=True):
        assert list(prediction.probabilities) == list(CLASSES)
        np.testing.assert_allclose(list(prediction.probabilities.values()), row, rtol=1e-6)
        assert prediction.label is None


def test_multiclass_gives_a_distribution_and_its_most_probable_class(loras):
    for prediction in predictor(KIND).predict(loras):
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.probabilities[prediction.label] == max(prediction.probabilities.values())


def test_one_many_and_a_batch_are_answered_alike(loras):
    found = predictor(SOURCES)
    many = found.predict(loras)
    alone = [found.predict(lora)[0] for lora in loras]
    batched = found.predict(collate(loras, SIGNATURE))
    for other in (alone, batched):
        for a, b in zip(many, other, strict=True):
            np.testing.assert_allclose(
                list(a.probabilities.values()), list(b.probabilities.values()), rtol=1e-5
            )
    assert found.predict([]) == []


def test_more_loras_than_one_batch_holds(loras, monkeypatch):
    found = predictor()
    expected = [p.value for p in found.predict(loras)]
    monkeypatch.setattr("lorascope.predict.predictor.BATCH", 2)
    np.testing.assert_allclose([p.value for p in found.predict(loras)], expected, rtol=1e-5)


def test_dropout_is_off_and_the_mode_of_the_model_is_left_alone(loras):
    found = predictor(model="mlp")
    found.model.train()
    first, second = found.predict(loras), found.predict(loras)
    assert [p.value for p in first] == [p.value for p in second]
    assert found.model.training


def test_the_held_out_scores_come_with_each_prediction(loras):
    assert predictor().predict(loras[0])[0].held_out == {"rmse": 0.25}
    assert Predictor(predictor().model, SCORE).predict(loras[0])[0].held_out == {}


def test_the_order_of_layers_in_the_file_does_not_matter(loras):
    turned = LoRA(dict(reversed(loras[0].layers.items())), {}, loras[0].provenance)
    found = predictor()
    assert found.predict(turned)[0].value == found.predict(loras[0])[0].value


@pytest.mark.parametrize(
    ("base", "words"), [(None, "does not say"), ("other", "belongs to 'other'")]
)
def test_another_or_an_unknown_base_is_warned_of(loras, base, words):
    lora = replace(loras[0], provenance=Provenance(base=base))
    (warning,) = predictor().predict(lora)[0].warnings
    assert words in warning
    assert BASE in warning


def test_the_right_base_gives_no_warning(loras):
    assert predictor().predict(loras[0])[0].warnings == ()
    assert predictor().predict(collate(loras, SIGNATURE))[0].warnings == ()


@pytest.mark.parametrize(
    ("ours", "base", "same"),
    [
        ("Qwen/Qwen2-1.5B", "/models/Qwen2-1.5B/", True),
        ("Qwen/Qwen2-1.5B", "/models/qwen2-1.5b", True),
        ("Qwen/Qwen2-1.5B", "D:\\models\\Qwen2-1.5B", True),
        ("Qwen/Qwen2-1.5B", "~/.cache/hub/models--Qwen--Qwen2-1.5B/snapshots/8a16abf2848e", True),
        ("/a/models--x--y/snapshots/1", "/b/models--x--z/snapshots/1", False),
        ("Qwen/Qwen2-1.5B", "Qwen/Qwen2-1.5B-Instruct", False),
        ("Qwen/Qwen2-1.5B", "Qwen", False),
        ("/", "x", False),
    ],
)
def test_a_base_is_known_by_its_own_name_wherever_it_lies(loras, ours, base, same):
    model = build_model("svd", replace(SIGNATURE, base=ours), SCORE.out_features, rank=4)
    lora = replace(loras[0], provenance=Provenance(base=base))
    warnings = Predictor(model, SCORE).predict(lora)[0].warnings
    assert ["base:" in warning for warning in warnings] == ([] if same else [True])


def test_an_extra_layer_is_an_error_that_names_it(loras):
    extra = LowRank(torch.ones(3, 1), torch.ones(4, 1))
    lora = LoRA({**loras[0].layers, "block.9.k": extra}, {}, loras[0].provenance)
    with pytest.raises(SignatureError, match=r"block\.9\.k"):
        predictor().predict(lora)


def test_a_layer_of_another_size_is_an_error_that_names_both_sizes(loras):
    wide = LowRank(torch.ones(12, 1), torch.ones(11, 1))
    lora = LoRA({**loras[0].layers, "block.1.q": wide}, {}, loras[0].provenance)
    with pytest.raises(SignatureError, match=r"block\.1\.q.*12 x 11.*12 x 10"):
        predictor().predict(lora)


def test_a_missing_layer_is_an_error_where_the_model_needs_all(loras):
    lora = loras[0].select(["block.0.q", "block.0.v"])
    with pytest.raises(SignatureError, match=r"block\.1\.q"):
        predictor(model="mlp").predict(lora)


def test_a_rank_above_the_maximum_is_an_error(loras):
    with pytest.raises(RankError, match="rank 6"):
        predictor(model="mlp").predict(loras[0] + loras[1])


def test_outputs_and_target_must_agree():
    with pytest.raises(DataError, match="1 outputs, the target needs 3"):
        Predictor(predictor().model, SOURCES)


@pytest.mark.parametrize("model", ["svd", "mlp", "gl_net", "kernel_spectra"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_the_number_of_the_lora(loras, model, value):
    poisoned = loras[1].map(
        lambda p: LowRank(p.u.clone().index_fill(0, torch.tensor([2]), value), p.v)
    )
    with pytest.raises(LayerError, match=r"number 1 \(in memory\): the factors or magnitudes hold"):
        predictor(model=model).predict([loras[0], poisoned])


def test_an_answer_that_is_not_finite_is_refused(loras):
    with pytest.raises(LayerError, match="the answer is"):
        predictor(model="mlp").predict(loras[0] * 1e30)


@pytest.mark.parametrize("model", ["svd", "gl_net", "ridge"])
def test_a_lora_with_none_of_the_layers_is_refused(loras, model):
    for empty in (LoRA({}), loras[0].map(lambda p: LowRank(p.u[:, :0], p.v[:, :0]))):
        with pytest.raises(LayerError, match=r"number 1 .* none of the 3 layers"):
            predictor(model=model).predict([loras[0], empty])


def test_factors_too_large_for_an_answer_are_refused_by_their_number(loras):
    huge = loras[1].map(lambda p: LowRank(p.u * 1e25, p.v * 1e25))
    with pytest.raises(LayerError, match=r"number 1 .* values up to \d.*e\+25"):
        predictor(model="gl_net").predict([loras[0], huge, loras[2]])


def dora_predictor():
    loras = [with_magnitudes(x, torch.Generator().manual_seed(i)) for i, x in enumerate(PLAIN)]
    data = label_loras(
        loras,
        {"score": [float(x.side["block.1.q.dora_magnitude"].tensor[0]) for x in loras]},
        [SCORE],
        groups=[str(i) for i in range(len(loras))],
    )
    return fit(data, "score", model="fusion"), loras


def test_one_that_reads_magnitudes_says_where_they_are_missing(tmp_path):
    found, loras = dora_predictor()
    read, lacking = found.predict([loras[0], PLAIN[0]])
    assert read.warnings == ()
    assert not read.abstains
    assert "answered by its factors alone" in lacking.warnings[0]
    assert lacking.abstains
    assert "which every training LoRA had" in lacking.reason
    again = load_predictor(found.save(tmp_path / "dora"))
    assert [p.value for p in again.predict(loras[:5])] == [
        p.value for p in found.predict(loras[:5])
    ]
    assert again.predict(PLAIN[0])[0].reason == lacking.reason


def test_one_trained_on_plain_loras_flags_magnitudes_and_does_not_read_them(tmp_path):
    labels = {"score": [float(i) for i in range(len(PLAIN))]}
    data = label_loras(PLAIN, labels, [SCORE], groups=[str(i) for i in range(len(PLAIN))])
    found = fit(data, "score", model="fusion")
    dora = with_magnitudes(PLAIN[0], torch.Generator().manual_seed(0))
    plain, flagged = found.predict([PLAIN[0], dora])
    assert plain.value == pytest.approx(flagged.value, rel=1e-6)
    assert plain.warnings == ()
    assert "this predictor, trained without magnitudes, does not read" in flagged.warnings[0]
    assert flagged.abstains
    found.save(tmp_path / "plain")
    assert "magnitude" not in (tmp_path / "plain/predictor.json").read_text()
    assert b"magnitude" not in (tmp_path / "plain/model.safetensors").read_bytes()


def test_tensors_that_no_model_reads_are_told(loras, generator):
    dora = with_magnitudes(loras[1], generator)
    bias = replace(loras[2], side={"block.0.q.bias": Side("bias", torch.zeros(12))})
    plain, one, other = predictor().predict([loras[0], dora, bias])
    assert plain.warnings == ()
    assert (
        "dora_magnitude tensors beside its factors, which the model 'svd' does" in one.warnings[0]
    )
    assert "bias tensors" in other.warnings[0]
    assert predictor().predict(collate([dora], SIGNATURE))[0].warnings == one.warnings
    side = {"block.0.q.dora_magnitude": Side("dora_magnitude", torch.full((12,), torch.nan))}
    with pytest.raises(LayerError, match=r"number 0 .* magnitudes hold NaN"):
        predictor().predict(replace(loras[0], side=side))


def test_a_decomposition_that_fails_is_told_by_the_largest_factors(loras, monkeypatch):
    found = predictor()

    def fails(batch):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(found.model, "forward", fails)
    with pytest.raises(
        LayerError, match=r"number 2 .*decomposition of the factors failed; .* up to"
    ):
        found.predict([loras[0], loras[1], loras[2] * 1e6])
