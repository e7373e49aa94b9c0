import pytest
import torch
from sklearn.metrics import roc_auc_score

from lorascope.core.batch import collate
from lorascope.core.lora import LoRA
from lorascope.core.low_rank import LowRank
from lorascope.predict.outlier import DETECTORS, SHORT, Outliers
from lorascope.predict.pretence import blend, mix, randomise
from lorascope.predict.profile import FACTS
from lorascope.symmetry import act, random_gauges
from tests.planted import planted_loras

NAMES = [f"block.{i}.{side}" for i in range(4) for side in "qv"]


def trained(count, rank=4, seed=0):
    """What training leaves: sources that all layers share, seen through a random A of each layer."""
    fixed = torch.Generator().manual_seed(1)
    sides = {
        name: (torch.randn(24, 6, generator=fixed), torch.randn(20, 6, generator=fixed))
        for name in NAMES
    }
    draw = torch.Generator().manual_seed(seed)
    loras = []
    for _ in range(count):
        shown = 0.3 + (torch.rand(6, generator=draw) < 0.5).float()
        size = (0.5 * torch.randn((), generator=draw)).exp()
        layers = {}
        for name, (a, b) in sides.items():
            down = torch.randn(20, rank, generator=draw) / 20**0.5
            down = down + b @ torch.randn(6, rank, generator=draw) / 4
            layers[name] = LowRank(size * (a * shown) @ (b.T @ down), down)
        loras.append(LoRA(layers))
    return collate(loras)


BATCH = trained(560)
TRAIN, HELD, TEST = (BATCH.select(slice(*x)) for x in ((0, 400), (400, 480), (480, 560)))


@pytest.fixture(scope="module")
def outliers():
    found = Outliers(BATCH.signature)
    found.fit(TRAIN, HELD)
    return found


def generator():
    return torch.Generator().manual_seed(0)


def auroc(outliers, strange):
    scores = torch.cat([outliers.scores(TEST), outliers.scores(strange)])
    return roc_auc_score([0] * TEST.size + [1] * strange.size, scores.numpy())


def test_random_and_mixed_loras_are_told_apart_by_directions_alone(outliers):
    assert auroc(outliers, randomise(TEST, generator())) > 0.95
    assert auroc(outliers, mix(TEST, generator())) > 0.8
    assert auroc(outliers, blend(TEST, 3, generator())) > 0.85


def test_few_of_the_right_kind_are_beyond_the_limit_however_they_are_written(outliers):
    turned = act(random_gauges(TEST, generator=generator()), TEST)
    cast = TEST.to(torch.bfloat16)
    for batch in (TEST, turned, cast, TEST.pad(7)):
        assert float((outliers.scores(batch) > 1).double().mean()) <= 0.1
    torch.testing.assert_close(outliers.scores(turned), outliers.scores(TEST), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_few_of_other_ranks_are_beyond_the_limit(outliers, rank):
    assert float((outliers.scores(trained(60, rank, seed=7)) > 1).double().mean()) <= 0.2


def test_a_verdict_names_what_is_unusual(outliers):
    strange = outliers.verdicts(randomise(TEST.select(slice(0, 4)), generator()))
    for verdict in strange:
        assert verdict.abstain
        assert set(verdict.by) == set(DETECTORS)
        assert verdict.score == max(verdict.by.values())
        assert any(name in verdict.reason for name in BATCH.signature.names)
    for verdict, score in zip(outliers.verdicts(TEST), outliers.scores(TEST), strict=True):
        assert verdict.score == pytest.approx(float(score), rel=1e-4)
        assert bool(verdict.reason) == bool(verdict.rule) == verdict.abstain


def test_each_detector_has_words_of_its_own(outliers):
    seen = outliers._see(TEST.select([0]))
    one = type(seen)(seen.facts[0], seen.directions[0])
    found = [outliers._reason(by, one) for by in ([2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0])]
    said, rules = zip(*found, strict=True)
    assert said[0].startswith("unusual ")
    assert "do not go together" in said[1]
    assert "mean of several LoRAs" in said[2]
    assert [rule.split(":")[0] for rule in rules] == list(DETECTORS)
    assert rules[0].split(": ")[1] in SHORT
    assert len(SHORT) == len(FACTS)
    assert outliers._reason([1.0, 0, 0], one) == ("", "")


def test_it_is_the_same_after_saving(outliers):
    other = Outliers(BATCH.signature)
    other.load_state_dict(outliers.state_dict())
    assert torch.equal(other.scores(TEST), outliers.scores(TEST))


def test_rank_one_training_and_missing_layers():
    thin = collate([lora.truncate(1).lora for lora in planted_loras(80)[0]])
    found = Outliers(thin.signature)
    found.fit(thin.select(slice(0, 50)), thin.select(slice(50, 80)))
    assert float((found.scores(thin) > 1).double().mean()) < 0.2
    part = planted_loras(1)[0][0].select(["block.0.q"])
    score = found.scores(collate([part], thin.signature, allow_missing=True))
    assert bool(score.isfinite().all())
