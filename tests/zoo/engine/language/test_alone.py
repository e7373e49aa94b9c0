import pytest
import torch

from lorascope.zoo.engine.language.alone import adapt, fit_alone, sequence_loss, train_alone
from lorascope.zoo.engine.peft_model import adapted_layers
from tests.zoo.conftest import make_base, make_job

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def factors(model):
    return {
        name: module.lora_B.default.weight.detach().clone()
        for name, module in adapted_layers(model).items()
    }


@torch.no_grad()
def loss(model, job):
    return float(sequence_loss(model, job.tokens, job.weights))


def test_a_model_trains_one_job_after_another_as_if_fresh(spec):
    first = factors(fit_alone(make_base(), spec, make_job(2)))
    model = adapt(make_base(), spec)
    train_alone(model, spec, make_job(1))
    other = factors(model)
    train_alone(model, spec, make_job(2))
    again = factors(model)
    for name in first:
        assert first[name].any()
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_own_dropout_and_autocast_train_too(spec):
    base = make_base(dtype=torch.float32)
    job = make_job(0, examples=40, epochs=3, learning_rate=0.03)
    before = loss(base, job)
    model = adapt(base, spec)
    for autocast in (False, True):
        train_alone(model, spec, job, masks=False, autocast=autocast)
        assert loss(model, job) < before - 0.05


def test_the_loss_is_the_weighted_mean():
    base = make_base()
    job = make_job(0, examples=4)
    logs = base(input_ids=job.tokens).logits.log_softmax(-1)
    each = -logs[:, :-1].gather(2, job.tokens[:, 1:, None]).squeeze(2)
    expected = (each * job.weights[:, 1:]).sum() / job.weights.double().sum()
    assert torch.allclose(sequence_loss(base, job.tokens, job.weights), expected, rtol=1e-12)
