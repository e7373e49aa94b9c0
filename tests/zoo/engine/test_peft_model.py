import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.peft_model import adapted_layers, device_of, wrap
from tests.zoo.engine.image.conftest import make_unet


def test_a_wrapped_base_names_its_layers_as_the_base_does_and_is_given_back():
    unet = make_unet()
    names = [name for name, _ in unet.named_modules() if name.endswith("to_q")]
    model = wrap(unet, AdapterSpec(("to_q",), rank=2, alpha=2), lora_dropout=0.1)
    layers = adapted_layers(model)
    assert list(layers) == names
    assert {module.lora_A.default.out_features for module in layers.values()} == {2}
    assert {module.lora_dropout.default.p for module in layers.values()} == {0.1}
    assert device_of(model) == torch.device("cpu")
    assert model.unload() is unet
