import pytest
import torch

from lorascope.core.batch import collate
from lorascope.core.lora import LoRA, Side
from lorascope.predict.calibration import ProbabilityMap
from lorascope.predict.intervals import Interval
from lorascope.predict.outlier import Outliers
from lorascope.predict.trust import Trust, kinds_beside
from tests.planted import planted_loras

LORAS = planted_loras(60)[0]
BATCH = collate(LORAS)


@pytest.fixture(scope="module")
def outliers():
    found = Outliers(BATCH.signature)
    found.fit(BATCH.select(slice(0, 40)), BATCH.select(slice(40, 60)))
    return found


def with_side(lora):
    side = {"block.0.q.dora_magnitude": Side("dora_magnitude", torch.ones(12))}
    return LoRA(dict(lora.layers), side, lora.provenance)


def test_there_and_back(outliers):
    whole = Trust(ProbabilityMap((1.0,), (0.5,)), Interval(0.5, 99), outliers, ("bias",))
    back = Trust.from_parts(whole.to_json(), whole.tensors(), BATCH.signature)
    assert back.to_json() == whole.to_json()
    assert torch.equal(back.outliers.scores(BATCH), outliers.scores(BATCH))
    empty = Trust.from_parts({}, {}, BATCH.signature)
    assert empty.to_json() == {} == empty.tensors()
    assert empty.verdicts(BATCH) == [None] * 60


def test_parts_that_no_training_lora_had_are_beyond_the_limit(outliers):
    two = BATCH.select([0, 1])
    odd = [LORAS[0], with_side(LORAS[1])]
    for trust in (Trust(outliers=outliers, side=()), Trust(side=())):
        plain, strange = trust.verdicts(two, odd)
        assert plain is None or not plain.abstain
        assert strange.abstain
        assert "dora_magnitude" in strange.reason
        assert strange.rule == "tensors beside the factors"
    assert Trust(side=("dora_magnitude",)).verdicts(two, odd) == [None, None]
    assert Trust(side=None).verdicts(two, odd) == [None, None]
    assert Trust(side=()).verdicts(two, []) == [None, None]


def test_a_batch_alone_tells_of_magnitudes():
    trust, batch = Trust(side=()), collate([LORAS[0], with_side(LORAS[1])])
    plain, strange = trust.verdicts(batch)
    assert plain is None
    assert strange.abstain
    assert kinds_beside(batch) == [set(), {"dora_magnitude"}]
    assert kinds_beside(BATCH.select([0])) == [set()]


def test_a_lora_without_the_magnitudes_that_all_had_is_beyond_the_limit():
    trust = Trust(side=("dora_magnitude",), always=("dora_magnitude",))
    odd = [LORAS[0], with_side(LORAS[1])]
    for loras in (odd, []):
        strange, usual = trust.verdicts(collate(odd), loras)
        assert strange.abstain
        assert "no dora_magnitude tensors, which every training LoRA had" in strange.reason
        assert usual is None
    columns = LoRA(
        dict(LORAS[0].layers),
        {"block.0.q.dora_magnitude": Side("dora_magnitude", torch.ones(1, 10))},
    )
    (verdict,) = trust.verdicts(collate([columns]), [columns])
    assert "dora_magnitude of columns" in verdict.reason
    back = Trust.from_parts(trust.to_json(), {}, BATCH.signature)
    assert back.always == trust.always
    assert "always" not in Trust(side=()).to_json()
