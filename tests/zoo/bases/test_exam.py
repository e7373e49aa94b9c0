"""Training the exam's base: the reading, one short run, and (slow) one long enough to learn."""

import logging
import math

import pytest
import torch

from lorascope.zoo.bases import load_base
from lorascope.zoo.bases.exam import Reading, main, own_scores, train_base


class Uniform:
    """A model that knows nothing."""

    def __call__(self, input_ids):
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 50_000)})


def test_the_loss_of_a_model_that_knows_nothing():
    reading = Reading()
    index = reading.draw(64, torch.Generator().manual_seed(0))
    assert float(reading.loss(Uniform(), index)) == pytest.approx(math.log(50_000), abs=1e-4)


def test_the_loss_is_that_of_candidates_drawn_equally_often():
    reading, base = Reading(), load_base()
    index = torch.arange(0, len(reading.tokens), 97)
    losses = []
    for place in range(4):
        drawn = reading.candidates[index, place]
        tokens = reading.tokens[index].scatter(1, reading.lengths[index, None], drawn[:, None])
        log_p = base(input_ids=tokens[:, :-1]).logits.log_softmax(-1)
        own = -log_p.gather(2, tokens[:, 1:, None]).squeeze(2)
        places = torch.arange(own.shape[1])
        last = reading.lengths[index, None] - 1
        weight = (places == last).float() + 0.1 * (places < last)
        losses.append((own * weight).sum() / weight.sum())
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(reading.loss(base, index), expected, rtol=1e-5, atol=1e-5)


def test_groups_are_read_equally_often():
    reading = Reading()
    assert float(reading.chances.sum()) == pytest.approx(24, abs=1e-3)  # 20 sources, 4 rules


def test_a_short_run_writes_a_base_that_loads(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        main([str(tmp_path / "one"), "--seed", "3", "--steps", "2"])
    assert "step 2 of 2" in caplog.text
    steps = []
    facts = train_base(tmp_path / "two", seed=3, steps=2, progress=lambda *step: steps.append(step))
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert facts.command == "python -m lorascope.zoo.bases.exam FOLDER --seed 3 --steps 2"
    base = load_base(tmp_path / "two")
    assert own_scores(base) == pytest.approx(dict(facts.scores), abs=1e-5)
    other = load_base(tmp_path / "one").state_dict()  # the seed decides everything
    assert all(torch.equal(weight, other[name]) for name, weight in base.state_dict().items())


@pytest.mark.slow
def test_a_longer_run_learns_the_candidates(tmp_path):
    facts = train_base(tmp_path / "base", seed=1, steps=250)
    assert facts.scores["eval_loss"] < 2.0  # log 4 = 1.39 at best; 5.6 at the start
