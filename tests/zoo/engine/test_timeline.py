import pytest
import torch

from lorascope.errors import TrainingError
from lorascope.zoo.engine.timeline import timeline

STEPS = [7, 1, 30, 12, 9, 9, 2, 25, 3]


def test_every_job_runs_whole_and_in_one_lane():
    plan = timeline(STEPS, lanes=3)
    for job, steps in enumerate(STEPS):
        rows, lanes = (plan.jobs == job).nonzero().T
        assert len(set(lanes.tolist())) == 1
        assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + steps))
        assert plan.local[rows, lanes].tolist() == list(range(steps))


def test_lanes_end_together():
    steps = torch.randint(10, 280, (128,), generator=torch.Generator().manual_seed(0)).tolist()
    plan = timeline(steps, lanes=32)
    assert float((plan.jobs < 0).float().mean()) < 0.05
    assert len(timeline(STEPS, lanes=1)) == sum(STEPS)
    assert len(timeline(STEPS, lanes=20)) == max(STEPS)


def test_parts_of_jobs_keep_their_steps():
    plan = timeline([range(min(4, n)) for n in STEPS], lanes=3)
    assert sorted(plan.jobs[plan.jobs >= 0].unique().tolist()) == list(range(len(STEPS)))
    rest = timeline([range(4, n) for n in STEPS], lanes=3)
    for job, steps in enumerate(STEPS):
        assert rest.local[rest.jobs == job].tolist() == list(range(4, steps))
    fresh = torch.zeros(3, dtype=torch.int64)
    for turn in rest.turns(torch.device("cpu")):
        fresh += torch.bincount(turn.fresh[torch.isin(turn.fresh, turn.lanes)], minlength=3)
    assert int(fresh.sum()) == sum(n > 4 for n in STEPS)  # each is taken up once


def test_a_plan_of_nothing_is_refused():
    with pytest.raises(TrainingError, match="no step of any"):
        timeline([range(3, 2)], lanes=1)
