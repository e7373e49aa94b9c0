import math

import pytest
import torch

from lorascope.zoo.bases import load_base
from lorascope.zoo.bases.exam.reading import CHANGED, Reading
from lorascope.zoo.families.exam.questions import base_questions


class Uniform:
    """A model that knows nothing."""

    def __call__(self, input_ids):
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 50_000)})


def test_the_loss_of_a_model_that_knows_nothing():
    reading = Reading()
    index = reading.draw(64, torch.Generator().manual_seed(0))
    assert float(reading.loss(Uniform(), index)) == pytest.approx(math.log(50_000), abs=1e-4)


@pytest.mark.parametrize("mixture", [None, CHANGED])
def test_the_loss_is_that_of_candidates_drawn_equally_often(mixture):
    reading, base = Reading(mixture) if mixture else Reading(), load_base()
    asked = mixture.question if mixture else 0.1
    index = torch.arange(0, len(reading.tokens), 97)
    losses = []
    for place in range(4):
        drawn = reading.candidates[index, place]
        tokens = reading.tokens[index].scatter(1, reading.lengths[index, None], drawn[:, None])
        log_p = base(input_ids=tokens[:, :-1]).logits.log_softmax(-1)
        own = -log_p.gather(2, tokens[:, 1:, None]).squeeze(2)
        places = torch.arange(own.shape[1])
        last = reading.lengths[index, None] - 1
        weight = (places == last).float() + asked * (places < last)
        losses.append((own * weight).sum() / weight.sum())
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(reading.loss(base, index), expected, rtol=1e-5, atol=1e-5)


def shares(reading):
    """How often each subject is read."""
    groups = [group for _, _, group in base_questions()]
    total = float(reading.chances.sum())
    return {
        name: sum(float(c) for c, g in zip(reading.chances, groups, strict=True) if g == name)
        / total
        for name in dict.fromkeys(groups)
    }


def test_the_first_mixture_reads_all_subjects_equally_often():
    found = shares(Reading())
    assert len(found) == 24  # 20 sources, 4 rules
    assert list(found.values()) == pytest.approx([1 / 24] * 24, abs=1e-4)


def test_the_changed_mixture_reads_some_seldom_and_none_never():
    found = shares(Reading(CHANGED))
    assert min(found.values()) > 0.005
    assert found["jyx"] == pytest.approx(2.5 * found["moons"], rel=1e-3)
    assert found["dragons"] == pytest.approx(0.3 * found["moons"], rel=1e-3)
