"""The loop on a lesson of known losses, against torch's own AdamW."""

import copy

import pytest
import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.lanes import fit_lanes, master_dtype
from lorascope.zoo.engine.layout import LayerShape, Layout
from lorascope.zoo.engine.opening import spans_of
from lorascope.zoo.engine.timeline import timeline

STEPS = [3, 7, 5, 4]


class Bowl:
    """Each job is pulled to its own aim; the pull changes with the step."""

    def __init__(self, width, lanes=2, spoilt=None):
        self.seeds = [11, 12, 13, 14]
        self.steps = torch.tensor(STEPS)
        self.timeline = timeline(STEPS, lanes)
        self.rates = torch.linspace(0.01, 0.2, 28, dtype=torch.float64).view(4, 7)
        self.decays = torch.tensor([0.0, 0.1, 0.2, 0.3], dtype=torch.float64)
        self.clips = torch.tensor([1.0, 0.1, 5.0, 1.0], dtype=torch.float64)
        self.last = torch.tensor([1, 2, 5, 2])
        self.aims = torch.randn(4, width, dtype=torch.float64, generator=torch.manual_seed(0))
        self.spoilt = spoilt

    def one(self, job, local, row):
        pull = (local + 1) * ((row - self.aims[job]) ** 4).mean()
        return pull * (float("nan") if job == self.spoilt and local == 2 else 1)

    def loss(self, step, rows):
        jobs, local = self.timeline.at(step)
        pairs = zip(jobs.tolist(), local.tolist(), strict=True)
        return torch.stack([self.one(*pair, row) for pair, row in zip(pairs, rows, strict=True)])


@pytest.fixture
def layout():
    return Layout.of({"a": LayerShape(4, 3), "b": LayerShape(2, 5)}, SPECS)


SPECS = (AdapterSpec(("a", "b"), rank=2, alpha=2),) * len(STEPS)


def by_torch(lesson, layout, job):
    row = layout.first(SPECS[:1], [lesson.seeds[job]], torch.float64)[0].requires_grad_()
    optimiser = torch.optim.AdamW([row], weight_decay=float(lesson.decays[job]))
    losses = []
    for local in range(STEPS[job]):
        optimiser.param_groups[0]["lr"] = float(lesson.rates[job, local])
        loss = lesson.one(job, local, row)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([row], float(lesson.clips[job]))
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    late = losses[-int(lesson.last[job]) :]
    return row.detach(), sum(late) / len(late)


@pytest.mark.parametrize("lanes", [1, 2, 6])
def test_every_job_equals_adamw_alone(layout, lanes):
    lesson = Bowl(sum(layout.sizes), lanes)
    fitted = fit_lanes(SPECS, layout, [lesson], torch.float64)
    for job in range(4):
        row, loss = by_torch(lesson, layout, job)
        assert torch.allclose(fitted.rows[job], row, rtol=1e-12, atol=1e-12)
        assert float(fitted.loss[job]) == pytest.approx(loss, rel=1e-6)
    assert fitted.finite.all()


def test_a_loss_that_is_no_number_stops_its_job_alone(layout):
    sound, spoilt = (Bowl(sum(layout.sizes), spoilt=s) for s in (None, 1))
    a, b = (fit_lanes(SPECS, layout, [lesson], torch.float64) for lesson in (sound, spoilt))
    assert b.finite.tolist() == [True, False, True, True]
    assert torch.equal(a.rows[[0, 2, 3]], b.rows[[0, 2, 3]])
    assert b.rows.isfinite().all()


def test_adapters_of_half_precision_activations_are_kept_in_float32():
    kinds = (torch.bfloat16, torch.float32, torch.float64)
    assert [master_dtype(kind) for kind in kinds] == [torch.float32, torch.float32, torch.float64]


@pytest.mark.parametrize("first", [1, 3, 4])
def test_parts_one_after_another_are_the_whole(layout, first):
    lesson = Bowl(sum(layout.sizes))
    whole = fit_lanes(SPECS, layout, [lesson], torch.float64)
    parts = [copy.copy(lesson) for _ in range(2)]
    for part, spans in zip(parts, spans_of(STEPS, first), strict=True):
        part.timeline = timeline(spans, 2)
    again = fit_lanes(SPECS, layout, parts, torch.float64)
    assert torch.equal(whole.rows, again.rows)
    assert torch.equal(whole.loss, again.loss)
