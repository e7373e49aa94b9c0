import torch

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
