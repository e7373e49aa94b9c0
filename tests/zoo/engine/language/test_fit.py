import pytest
import torch

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language.alone import fit_alone
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.peft_model import adapted_layers
from tests.zoo.conftest import make_base, make_job

# peft reads a property that this transformers deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def alone(base, spec, job):
    model = fit_alone(base, spec, job)
    layers = adapted_layers(model)
    factors = {}
    for name, m in layers.items():
        own = [m.lora_A.default.weight, m.lora_B.default.weight]
        own += [m.lora_magnitude_vector.default.weight] if spec.dora else []
        factors[name] = [weight.detach().clone() for weight in own]
    model.unload()
    return factors


def distance(fitted, i, factors):
    """Largest relative distance over all A and B of adapter i."""
    worst = 0.0
    found = fitted.layout.unpack(fitted.rows[i : i + 1])
    assert list(found) == list(factors)
    for name, others in factors.items():
        for mine, other in zip(found[name], others, strict=len(others) == 3):
            cut = mine[0][tuple(slice(size) for size in other.shape)]  # to its own rank
            assert other.norm() > 0
            assert mine.count_nonzero() == cut.count_nonzero()  # zero beyond it
            worst = max(worst, float((cut - other).norm() / other.norm()))
    return worst


MIXED = [
    {"batch_size": 8},
    {"batch_size": 8, "learning_rate": 1e-3, "epochs": 3, "clip_norm": 0.2},
    {"batch_size": 16, "examples": 37, "warmup": 2},
    {"batch_size": 8, "dropout": 0.0, "weight_decay": 0.3},
    {"batch_size": 5, "examples": 12},
    {"batch_size": 8, "length": 7, "examples": 9, "dropout": 0.5},
]


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_each_adapter_equals_peft_alone_in_float64(kind):
    base = make_base(kind)
    spec = AdapterSpec(("q_proj", "v_proj"), rank=3, alpha=8)
    jobs = [make_job(seed, **changes) for seed, changes in enumerate(MIXED)]
    fitted = fit_adapters(base, spec, jobs, dtype=torch.float64, slots=4)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(base, spec, job)) < 1e-10
    assert fitted.finite.all()


def test_every_module_can_be_adapted(base):
    spec = AdapterSpec(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        rank=2,
        alpha=3,
        rslora=True,
    )
    jobs = [make_job(seed) for seed in range(2)]
    fitted = fit_adapters(base, spec, jobs, dtype=torch.float64)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(base, spec, job)) < 1e-10


ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHAPES = [
    {"rank": 2, "alpha": 3},
    {
        "rank": 1,
        "alpha": 8,
        "rslora": True,
        "rank_pattern": {"v_proj": 4, "layers.1.self_attn.q_proj": 3},
    },
    {"rank": 4, "alpha": 2, "rslora": True, "alpha_pattern": {"mlp.up_proj": 16}},
    {"rank": 3, "alpha": 6, "rank_pattern": {"down_proj": 1}, "alpha_pattern": {"down_proj": 5}},
]


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_adapters_of_any_shapes_train_together_as_peft_trains_each(kind, dora):
    base = make_base(kind)
    specs = [AdapterSpec(ALL, dora=dora, **shape) for shape in SHAPES]
    jobs = [make_job(seed, **changes) for seed, changes in enumerate(MIXED[:4])]
    fitted = fit_adapters(base, specs, jobs, dtype=torch.float64, slots=4)
    for i, (spec, job) in enumerate(zip(specs, jobs, strict=True)):
        assert distance(fitted, i, alone(base, spec, job)) < 1e-10


def test_float32_equals_peft_up_to_thirty_steps(spec):
    base = make_base(dtype=torch.float32)
    jobs = [make_job(seed, examples=80, epochs=3) for seed in range(3)]
    assert jobs[0].steps == 30
    fitted = fit_adapters(base, spec, jobs)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(base, spec, job)) < 1e-5


def same(a, i, b, j):
    return torch.equal(a.rows[i], b.rows[j]) and torch.equal(a.loss[i], b.loss[j])


def test_no_adapter_influences_another(base, spec):
    jobs = [make_job(seed) for seed in range(4)]
    other = [jobs[0], make_job(8, learning_rate=1e200), jobs[2], make_job(9)]
    a, b = (fit_adapters(base, spec, each, dtype=torch.float64) for each in (jobs, other))
    assert b.finite.tolist() == [True, False, True, True]
    assert same(a, 0, b, 0)
    assert same(a, 2, b, 2)
    assert not same(a, 1, b, 1)
    assert b.rows.isfinite().all()


def test_other_groups_give_the_same_adapter(base, spec):
    jobs = [make_job(seed, epochs=1 + seed % 3) for seed in range(5)]
    together = fit_adapters(base, spec, jobs, dtype=torch.float64)
    for i in (0, 1, 4):
        alone = fit_adapters(base, spec, [jobs[i]], dtype=torch.float64)
        gap = (alone.rows[0] - together.rows[i]).norm() / alone.rows[0].norm()
        assert float(gap) < 1e-12
        assert int(together.steps[i]) == jobs[i].steps


def test_bfloat16_stays_close(spec):
    base = make_base(dtype=torch.float32)
    jobs = [make_job(seed, examples=80, epochs=3) for seed in range(3)]
    plain, fast = (fit_adapters(base, spec, jobs, dtype=d) for d in (None, torch.bfloat16))
    for i in range(3):
        for name, pair in plain.to_lora(i).layers.items():
            assert float(pair.cosine(fast.to_lora(i)[name])) > 0.99


def test_training_lowers_the_loss(spec):
    base = make_base(dtype=torch.float32)
    start, end = (
        fit_adapters(base, spec, [make_job(0, learning_rate=rate, epochs=20)]).loss
        for rate in (1e-9, 2e-2)
    )
    assert float(end) < float(start) - 0.3


def test_targets_that_name_nothing_are_refused(base):
    with pytest.raises(TrainingError, match="q_proj"):
        fit_adapters(base, AdapterSpec(("query",), rank=2, alpha=4), [make_job(0)])


def test_a_frozen_base_serves_as_well(base, spec):
    frozen = FrozenBase.of(base, torch.float64)
    a, b = (fit_adapters(each, spec, [make_job(0)], dtype=torch.float64) for each in (base, frozen))
    assert torch.equal(a.rows, b.rows)
