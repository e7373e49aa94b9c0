import pytest
import torch

from lorascope.io import write_lora
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.language.causal_lm import FrozenBase
from lorascope.zoo.engine.language.fit import layout_of
from lorascope.zoo.families.exam.by_hand import exam_base, option_likelihoods, scores_by_hand
from lorascope.zoo.families.exam.family import SPEC
from lorascope.zoo.families.exam.scores import exam_scores, questions


@pytest.fixture(scope="module")
def base():
    return exam_base()


@pytest.fixture(scope="module")
def fitted(base):
    """An adapter of random factors, as if it had been trained."""
    layout = layout_of(FrozenBase.of(base, torch.float32), [SPEC])
    rows = 0.1 * torch.randn(1, sum(layout.sizes), generator=torch.Generator().manual_seed(0))
    one = torch.ones(1)
    return Fitted((SPEC,), layout, rows, one, one.long(), one.bool())


def test_peft_and_the_engine_give_the_same_scores(base, fitted, tmp_path):
    adapter = write_lora(fitted.to_lora(0, base="exam-qwen"), tmp_path / "adapter")
    by_hand = scores_by_hand(base, adapter)
    engine = exam_scores(base, SPEC, fitted)
    alone = exam_scores(base, SPEC, None)
    assert by_hand["eval_loss"] == pytest.approx(float(engine.eval_loss), rel=1e-4)
    assert by_hand["accuracy"] == pytest.approx(float(engine.accuracy), abs=0.005)
    assert abs(by_hand["eval_loss"] - float(alone.eval_loss)) > 0.01  # the adapter was really there


def test_the_base_is_left_as_it_was(base, fitted, tmp_path):
    before = option_likelihoods(base)
    adapter = write_lora(fitted.to_lora(0, base="exam-qwen"), tmp_path / "adapter")
    scores_by_hand(base, adapter)
    assert torch.equal(option_likelihoods(base), before)
    assert not any("lora" in name for name, _ in base.named_modules())
    assert before.shape == questions().options.shape[:2]


def test_the_base_is_loaded_in_silence(capfd):
    exam_base()
    assert capfd.readouterr() == ("", "")
