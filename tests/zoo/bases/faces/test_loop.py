"""The training loop: it learns, resumes to the same weights, and averages."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lorascope.zoo.bases.faces.loop import SAVE_EVERY, Plan, train


def start():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def loss_of(module):
    def loss(generator):
        x = torch.randn(16, 4, generator=generator)
        return (module(x)[:, 0] - x.sum(1)).square().mean()

    return loss


def test_the_loss_falls_and_is_told():
    module, told = start(), []
    train(module, loss_of(module), Plan("part", 300, 0.05, 0), lambda *said: told.append(said))
    assert [said[:3] for said in told[-1:]] == [("part", 300, 300)]
    assert told[-1][3] < 0.01 * told[0][3]


def test_a_stopped_run_ends_as_an_undisturbed_one(tmp_path):
    plan = Plan("part", SAVE_EVERY + 50, 0.05, 0, average=0.9)
    module = start()
    whole = train(module, loss_of(module), plan)

    class StopError(Exception):
        pass

    def stop(part, step, steps, loss):
        if step == SAVE_EVERY + 20:
            raise StopError

    kept = replace(plan, checkpoint=tmp_path / "part.pt")
    module = start()
    with pytest.raises(StopError):
        train(module, loss_of(module), kept, stop)
    module, told = start(), []
    resumed = train(module, loss_of(module), kept, lambda *said: told.append(said[1]))
    assert told[0] == SAVE_EVERY + 1
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_mean_of_the_weights_is_the_result_where_asked():
    module = start()
    mean = train(module, loss_of(module), Plan("part", 30, 0.05, 0, average=0.9))
    assert mean is not module
    assert not torch.equal(mean.weight, module.weight)


def test_the_rate_rises_and_falls():
    plan = Plan("part", 1000, 1.0, 0, warmup=10)
    rates = [plan.rate_at(step) for step in (0, 9, 500, 999)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert rates[1] == pytest.approx(1.0, rel=0.01)
    assert rates[2] == pytest.approx(0.51, rel=0.01)
    assert rates[3] == pytest.approx(0.02, rel=0.01)
