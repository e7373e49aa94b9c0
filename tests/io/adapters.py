"""Adapters made by peft itself on tiny random models: the oracle of the reader and the writer."""

import contextlib
import warnings
from pathlib import Path

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lorascope.core import LoRA, LowRank


@contextlib.contextmanager
def quiet():
    """peft warns of what these tests do on purpose; our own warnings are errors all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def llama() -> nn.Module:
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def qwen2() -> nn.Module:
    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=11,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    )


def mixtral() -> nn.Module:
    config = MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=12, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=3,
    )  # fmt: skip
    return MixtralForCausalLM(config)


def gpt_oss() -> nn.Module:
    config = GptOssConfig(
        vocab_size=32, hidden_size=16, intermediate_size=12, num_hidden_layers=1, head_dim=4,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2,
    )  # fmt: skip
    return GptOssForCausalLM(config)


class Convolutions(nn.Module):
    """One convolution of each dimension, one of them 1 x 1, one with groups."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(6, 8, 3)
        self.two = nn.Conv2d(4, 8, (3, 2))
        self.point = nn.Conv2d(4, 8, 1)
        self.three = nn.Conv3d(2, 4, 2)
        self.grouped = nn.Conv2d(4, 8, 3, groups=2, bias=False)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.head = nn.Linear(8, 3)


class SquareExperts(nn.Module):
    """A stack of square matrices: nothing in it tells inputs from outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Module()
        self.experts.mixer = nn.Parameter(torch.randn(3, 6, 6))
        self.block = nn.Module()
        self.block.single = nn.Parameter(torch.randn(5, 6))
        self.lin = nn.Linear(4, 4)


def adapt(model: nn.Module, config: LoraConfig | AdaLoraConfig, *, seed: int = 0) -> PeftModel:
    """The model with an adapter whose every value is random (peft begins with B = 0)."""
    torch.manual_seed(seed)
    with quiet():
        adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "trainable_tokens" in name or "modules_to_save" in name:
            parameter.data = torch.randn_like(parameter)
    return adapted


def save(adapted: PeftModel, folder: Path, **options) -> Path:
    with quiet():
        adapted.save_pretrained(str(folder), **options)
    return folder


def load(model: nn.Module, folder: Path) -> PeftModel:
    """The model with the adapter of a folder; every key must find its place, and every place a key."""
    with quiet():
        # what PeftModel.from_pretrained does, which keeps the result to itself
        adapted = PeftModel(model, LoraConfig.from_pretrained(str(folder)))
        result = adapted.load_adapter(str(folder), "default")
    assert not result.unexpected_keys, result.unexpected_keys
    missing = [key for key in result.missing_keys if ".default" in key]
    assert not missing, missing
    return adapted


def deltas(adapted: PeftModel) -> dict[str, Tensor]:
    """What peft adds to each weight, (out, in), under the names that lorascope gives the layers."""
    found: dict[str, Tensor] = {}
    for name, module in adapted.base_model.model.named_modules():
        if not hasattr(module, "get_delta_weight") or not hasattr(module, "base_layer"):
            continue
        layer = name.replace(".base_layer", "")
        with torch.no_grad():
            if not isinstance(module, ParamWrapper):
                delta = module.get_delta_weight("default")
                found[layer] = delta.T if getattr(module, "fan_in_fan_out", False) else delta
                continue
            path = f"{layer}.{module.parameter_name}".removesuffix(".weight")
            delta = module.get_delta_weight("default")
            if delta.ndim == 2:
                found[path] = delta
                continue
            # a class that keeps its experts transposed says so; then the delta is (in, out)
            turned = getattr(module.get_base_layer(), "is_transposed", False)
            pieces = enumerate(delta.mT if turned else delta)
            found.update({f"{path}.{expert}": piece for expert, piece in pieces})
    return found


def assert_same_updates(lora: LoRA, expected: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    """Relative Frobenius error of every layer's update, and the same layers."""
    assert set(lora) == set(expected)
    for name, delta in expected.items():
        got = update_of(lora[name]).reshape(delta.shape)
        gap = float((got.double() - delta.double()).norm() / delta.double().norm())
        assert gap <= tolerance, f"{name}: relative error {gap:.1e}"


def update_of(pair: LowRank) -> Tensor:
    """The update by the plain equation."""
    return torch.einsum("nr,mr->nm", pair.u.double(), pair.v.double())
