import pytest
import torch

from lorascope.zoo.alone import adapted_layers, fit_alone
from lorascope.zoo.fit import fit_adapters
from lorascope.zoo.jobs import AdapterSpec
from tests.zoo.conftest import make_base, make_job

# peft reads a property that this transformers deprecates
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def alone(base, spec, job):
    model = fit_alone(base, spec, job)
    layers = adapted_layers(model)
    factors = {
        name: (m.lora_A.default.weight.detach().clone(), m.lora_B.default.weight.detach().clone())
        for name, m in layers.items()
    }
    model.unload()
    return factors


def distance(fitted, i, factors):
    """Largest relative distance over all A and B of adapter i."""
    worst = 0.0
    assert list(fitted.A) == list(factors)
    for name, (A, B) in factors.items():
        for mine, other in ((fitted.A[name][i], A), (fitted.B[name][i], B)):
            assert other.norm() > 0
            worst = max(worst, float((mine - other).norm() / other.norm()))
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


def test_float32_equals_peft_up_to_thirty_steps(spec):
    base = make_base(dtype=torch.float32)
    jobs = [make_job(seed, examples=80, epochs=3) for seed in range(3)]
    assert jobs[0].steps == 30
    fitted = fit_adapters(base, spec, jobs)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(base, spec, job)) < 1e-5
