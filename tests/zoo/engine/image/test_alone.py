import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image.alone import adapt_unet, fit_image_alone, train_image_alone
from lorascope.zoo.engine.peft_model import adapted_layers
from tests.zoo.engine.image.conftest import LEVELS, make_job, make_unet, read

SPEC = AdapterSpec(("to_q", "conv1"), rank=2, alpha=2, dora=True)


def factors(model):
    parts = (p for m in adapted_layers(model).values() for p in m.parameters() if p.requires_grad)
    return torch.cat([p.detach().flatten() for p in parts])


def test_a_model_that_is_used_again_starts_afresh():
    unet, job = make_unet(), make_job(0)
    (text,) = read(job.prompt[None])
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    first = factors(fit_image_alone(unet, SPEC, job, text, LEVELS))
    again = make_unet()
    model = adapt_unet(again, SPEC)
    train_image_alone(model, SPEC, make_job(5), text, LEVELS)
    assert not torch.equal(factors(model), first)
    train_image_alone(model, SPEC, job, text, LEVELS)
    assert torch.equal(factors(model), first)
    model.unload()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in before.items())
