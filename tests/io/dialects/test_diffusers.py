"""diffusers' grammars, written and loaded by diffusers itself."""

import json

import pytest
import torch
from diffusers.loaders import FluxLoraLoaderMixin, StableDiffusionLoraLoaderMixin
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from lorascope.errors import FormatError
from lorascope.io import read_lora
from tests.io.adapters import quiet
from tests.io.networks import flux, load_adapter, loaded_deltas, matrices, random_pair, same, unet


def adapted(model, config):
    with quiet():
        model.add_adapter(config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    return model


CONFIGS = {
    "plain": LoraConfig(r=3, lora_alpha=6, target_modules=["to_q", "to_out.0", "proj_out"]),
    "patterns": LoraConfig(r=2, lora_alpha=2, target_modules=["to_k", "to_v"],
                           rank_pattern={"to_k": 4}, alpha_pattern={"to_v": 7}),
    "rslora": LoraConfig(r=4, lora_alpha=4, use_rslora=True, target_modules=["to_q"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize(
    ("model", "mixin", "component"),
    [(unet, StableDiffusionLoraLoaderMixin, "unet"), (flux, FluxLoraLoaderMixin, "transformer")],
)
def test_files_with_the_configuration_in_the_header(tmp_path, model, mixin, component, case):
    network = adapted(model(), CONFIGS[case])
    state = get_peft_model_state_dict(network, adapter_name="default")
    metadata = {
        k: sorted(v) if isinstance(v, set) else v for k, v in CONFIGS[case].to_dict().items()
    }
    with quiet():
        mixin.save_lora_weights(str(tmp_path), **{f"{component}_lora_layers": state,
                                f"{component}_lora_adapter_metadata": metadata})  # fmt: skip
    lora = read_lora(tmp_path)
    same(lora, loaded_deltas(network, component))
    assert (lora.provenance.format, lora.provenance.outcome) == ("diffusers", "exact")
    # without it alpha is unknown to every reader, and diffusers takes 1
    save_file(
        load_file(tmp_path / "pytorch_lora_weights.safetensors"), tmp_path / "bare.safetensors"
    )
    bare = read_lora(tmp_path / "bare.safetensors")
    assert {scale.factor for scale in bare.provenance.scales.values()} == {1.0}
    same(
        bare,
        load_adapter(model(), {f"{component}.{k}": v for k, v in state.items()}, prefix=component),
    )


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_attention_processors(tmp_path, prefix):
    generator = torch.Generator().manual_seed(0)
    model, tensors = unet(), {}
    for name, module in matrices(model).items():
        if not name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            continue
        owner, _, part = name.removesuffix(".0").rpartition(".")
        down, up = random_pair(module, 2, generator)
        tensors |= {f"{prefix}{owner}.processor.{part}_lora.down.weight": down,
                    f"{prefix}{owner}.processor.{part}_lora.up.weight": up}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    state = {f"unet.{key.removeprefix('unet.')}": tensor for key, tensor in tensors.items()}
    same(read_lora(tmp_path / "a.safetensors"), load_adapter(model, state, prefix="unet"))
    torch.save(tensors, tmp_path / "pytorch_lora_weights.bin")
    same(
        read_lora(tmp_path / "pytorch_lora_weights.bin", allow_pickle=True),
        loaded_deltas(model, "unet"),
    )


def test_newer_unet_and_text_encoder_spellings(tmp_path):
    down, up = torch.randn(2, 4), torch.randn(6, 2)
    tensors = {
        "unet.mid_block.attentions.0.proj_in.lora.down.weight": down,
        "unet.mid_block.attentions.0.proj_in.lora.up.weight": up,
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.down.weight": down.clone(),
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.up.weight": up.clone(),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    assert set(lora) == {
        "unet.mid_block.attentions.0.proj_in",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    }
    for pair in lora.layers.values():
        torch.testing.assert_close(pair.dense(), up @ down)


@pytest.mark.parametrize("text", ["[]", "{", '{"unet.r": 0, "unet.rank_pattern": 3}'])
def test_metadata_that_lies(tmp_path, text):
    key = "unet.mid_block.attentions.0.proj_in"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 4), f"{key}.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": text})
    with pytest.raises(FormatError):
        read_lora(tmp_path / "a.safetensors")


def test_metadata_of_another_component_says_nothing(tmp_path):
    key = "unet.mid_block.attentions.0.proj_in"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 4), f"{key}.lora_B.weight": torch.ones(4, 2)}
    metadata = {
        "lora_adapter_metadata": json.dumps(
            {"text_encoder.r": 2, "text_encoder.lora_alpha": 8, "x": 1}
        )
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    assert read_lora(tmp_path / "a.safetensors").provenance.scales[key].factor == 1.0
