"""Packed rows give the adapters that padded ones give and that PEFT trains alone."""

import pytest
import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language.fit import WordLesson, fit_adapters
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.language.packed_lesson import PackedLesson, tokens_learned
from lorascope.zoo.engine.language.packing import real_lengths
from tests.zoo.conftest import make_base, make_job
from tests.zoo.elsewhere import ELSEWHERE, Elsewhere
from tests.zoo.engine.language.test_fit import alone, distance

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def ragged_job(seed, *, examples=20, length=30, **changes):
    """Examples of 5 to `length` tokens, padded at the right; answers of 1 to 3 tokens."""
    generator = torch.Generator().manual_seed(100 + seed)
    plain = make_job(seed, examples=examples, length=length, **changes)
    weights = torch.zeros(examples, length)
    for row in weights:
        end, answer = (
            int(torch.randint(a, b, (), generator=generator)) for a, b in ((5, length + 1), (1, 4))
        )
        row[end - answer : end] = 1
        row[end - answer] = 0.3 if answer > 1 else 1
    tokens = torch.where(weights.flip(1).cumsum(1).flip(1) > 0, plain.tokens, 0)
    fields = {
        f: getattr(plain, f) for f in ("learning_rate", "weight_decay", "epochs", "batch_size")
    }
    more = {"dropout": plain.dropout, "clip_norm": plain.clip_norm, "warmup": plain.warmup}
    return FitJob(seed=seed, tokens=tokens, weights=weights, **fields, **more)


MIXED = [
    {"batch_size": 8},
    {"batch_size": 8, "learning_rate": 1e-3, "epochs": 3, "clip_norm": 0.2, "examples": 21},
    {"batch_size": 16, "examples": 37, "warmup": 2},
    {"batch_size": 8, "dropout": 0.0, "weight_decay": 0.3},
    {"batch_size": 5, "examples": 12},
    {"batch_size": 8, "length": 17, "examples": 9, "dropout": 0.5},
]


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_each_adapter_equals_peft_alone_in_float64(kind):
    base = make_base(kind)
    spec = AdapterSpec(("q_proj", "v_proj"), rank=3, alpha=8)
    jobs = [ragged_job(seed, **changes) for seed, changes in enumerate(MIXED)]
    fitted = fit_adapters(base, spec, jobs, dtype=torch.float64, slots=2, lesson=PackedLesson)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(base, spec, job)) < 1e-10
    assert fitted.finite.all()


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_of_any_shapes_equal_those_in_padded_rows(dora):
    base = make_base()
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    specs = [AdapterSpec(targets, rank=rank, alpha=4, dora=dora) for rank in (1, 3, 2, 2)]
    jobs = [ragged_job(seed, epochs=1 + seed % 2) for seed in range(4)]
    padded, packed = (
        fit_adapters(base, specs, jobs, dtype=torch.float64, slots=3, lesson=lesson)
        for lesson in (WordLesson, PackedLesson)
    )
    assert torch.allclose(padded.rows, packed.rows, rtol=1e-10, atol=1e-12)
    assert torch.allclose(padded.loss, packed.loss, rtol=1e-6)


def test_no_adapter_influences_another():
    base, spec = make_base(), AdapterSpec(("q_proj", "v_proj"), rank=3, alpha=8)
    jobs = [ragged_job(seed) for seed in range(4)]
    other = [jobs[0], ragged_job(8, learning_rate=1e200), jobs[2]]
    a, b = (
        fit_adapters(base, spec, each, dtype=torch.float64, lesson=PackedLesson)
        for each in (jobs, other)
    )
    assert b.finite.tolist() == [True, False, True]
    for i in (0, 2):
        assert torch.allclose(a.rows[i], b.rows[i], rtol=1e-10, atol=1e-12)


def test_steps_have_no_more_rows_than_they_need():
    base, spec = (
        FrozenBase.of(make_base(), torch.float64),
        AdapterSpec(("q_proj",), rank=2, alpha=8),
    )
    jobs = [ragged_job(seed, batch_size=32, examples=64) for seed in range(3)]
    seen = Counted.seen = []
    fit_adapters(base, spec, jobs, slots=8, lesson=Counted)
    real = sum(job.epochs * int(real_lengths(job.weights).sum()) for job in jobs)
    assert sum(tokens for _, tokens in seen) == real
    assert 1 - real / sum(area for area, _ in seen) < 0.05
    padded = sum(job.steps * job.batch_size * (job.tokens.shape[1] - 1) for job in jobs)
    assert real / padded < 0.65


def test_the_tokens_of_an_epoch_are_counted():
    job = ragged_job(0, batch_size=32, examples=70)
    real, whole = tokens_learned(job)
    assert real == int(real_lengths(job.weights).sum())
    assert real <= whole < 1.1 * real


class Counted(PackedLesson):
    """Counts the tokens of the rows that it trains on."""

    def rows_of(self, step):
        where = super().rows_of(step)
        self.seen.append((where.segment.numel(), int((where.segment >= 0).sum())))
        return where


def test_the_device_is_the_bases():
    base = FrozenBase.of(make_base(), torch.float32).to(device=ELSEWHERE)
    spec = AdapterSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
    jobs = [ragged_job(seed, dropout=0.1 * (seed % 2)) for seed in range(3)]
    with Elsewhere():
        fitted = fit_adapters(base, spec, jobs, slots=2, lesson=PackedLesson)
    assert fitted.rows.device.type == "cpu"
