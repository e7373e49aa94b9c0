from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.core.batch import collate
from lorascope.errors import DataError, FileError, IntegrityError
from lorascope.predict import load_predictor
from lorascope.predict.pretence import randomise
from lorascope.predict.trust import Trust
from lorascope.train import fit, fit_many
from lorascope.train.fit import default_split
from lorascope.train.metrics import scores
from lorascope.train.splits import Split
from lorascope.train.trust import absolute_errors, learn_outliers, learn_trust
from tests.planted import planted, planted_loras

DATA = planted(400)


@pytest.fixture(scope="module")
def predictors():
    return fit_many(DATA, model="kernel_cosine", trust=True)


def test_each_kind_of_target_learns_what_it_needs(predictors):
    score, sources, kind = (predictors[name] for name in ("score", "sources", "kind"))
    assert score.trust.probabilities is None
    assert sources.trust.interval is None
    assert sources.trust.probabilities is not None
    assert kind.trust.interval is not None
    assert score.trust.outliers is sources.trust.outliers is not None
    assert score.trust.side == ()


def test_the_report_says_how_well_it_holds(predictors):
    score = predictors["score"].report["trust"]
    assert 0.8 < score["interval"]["inside"] <= 1
    assert 0.85 < score["interval"]["divisions"]["mean"] < 0.97
    assert score["flagged"] <= 0.15
    sources = predictors["sources"].report["trust"]["calibration_error"]
    assert 0 <= sources["after"] < 0.2
    raw = replace(predictors["sources"], trust=Trust())
    losses = [held_out_loss(x) for x in (predictors["sources"], raw)]
    assert losses[0] < losses[1] + 0.01


def held_out_loss(predictor):
    rows = default_split(DATA, 0).test
    found = predictor.outputs(DATA.batch.select(torch.from_numpy(rows)))
    return scores(predictor.target, DATA.labels["sources"][rows], found)["log_loss"]


def test_answers_carry_it_and_survive_saving(predictors, tmp_path):
    lora = planted_loras(3, seed=5)[0][0]
    for name, predictor in predictors.items():
        again = load_predictor(predictor.save(tmp_path / name))
        one, two = (p.predict(lora)[0] for p in (predictor, again))
        assert one.to_json() == two.to_json()
        assert one.outlier is not None
    score = predictors["score"].predict(lora)[0]
    low, high = score.interval
    assert low < score.value < high
    assert score.level == 0.9
    kind = predictors["kind"].predict(lora)[0]
    assert kind.label in kind.possible


def test_an_unusual_lora_makes_it_abstain(predictors):
    batch = collate(planted_loras(5, seed=6)[0])
    strange = randomise(batch, torch.Generator().manual_seed(0)).unbind()
    for answer in predictors["score"].predict(strange):
        assert answer.abstains
        assert answer.reason
        assert answer.to_json()["abstains"] is True


def test_too_few_rows_teach_nothing_and_trust_can_be_left_out():
    few = np.arange(10)
    assert learn_outliers(DATA, few, few) is None
    plain = fit(DATA, "score", model="ridge", trust=False)
    assert plain.trust.to_json() == {}
    assert "trust" not in plain.report
    assert learn_trust(plain, DATA, few).interval is None
    split = Split(np.arange(100), np.arange(100, 110), np.arange(110, 400))
    assert fit(DATA, "score", model="ridge", split=split).trust.interval is None


def test_errors_of_labels_are_no_interval(predictors):
    with pytest.raises(DataError, match="multilabel"):
        absolute_errors(predictors["sources"], np.zeros((1, 3)), np.zeros((1, 3)))


def test_a_damaged_file_of_detectors_is_refused(predictors, tmp_path):
    folder = predictors["score"].save(tmp_path / "p")
    weights = folder / "trust.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"trust\.safetensors"):
        load_predictor(folder)
    weights.unlink()
    with pytest.raises(FileError, match=r"trust\.safetensors"):
        load_predictor(folder)
