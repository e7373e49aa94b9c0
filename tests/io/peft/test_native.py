"""LoHa and LoKr as PEFT saves them, against what PEFT adds to the weight."""

import json
from unittest.mock import patch

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from lorascope.core import Hadamard, Kronecker
from lorascope.errors import FormatError
from lorascope.io import read_lora, sniff, write_lora
from tests.io.adapters import quiet

TARGETS = ["linear", "small", "conv", "point", "line"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 36, bias=False)
        self.small = nn.Linear(4, 6, bias=False)
        self.conv = nn.Conv2d(12, 8, 3, bias=False)
        self.point = nn.Conv2d(12, 8, 1, bias=False)
        self.line = nn.Conv1d(12, 8, 3, bias=False)

    def forward(self, x):
        return self.linear(x)


def kron(a, b, kron=torch.kron):
    """The product by its definition where there are kernels."""
    if b.ndim < 4:
        return kron(a, b)
    wide = torch.einsum("pqxy,nmkl->pnqmxkyl", a, b)
    return wide.reshape([p * q for p, q in zip(a.shape, b.shape, strict=True)])


def saved(folder, config):
    """A saved adapter of random factors, and what it adds to each weight."""
    torch.manual_seed(0)
    with quiet():
        model = get_peft_model(Model(), config)
        for name, parameter in model.named_parameters():
            if "hada_" in name or "lokr_" in name:
                nn.init.normal_(parameter)
        model.save_pretrained(folder)
    # torch.kron cannot view what peft 0.21.2 hands it for kernels
    with torch.no_grad(), patch("torch.kron", kron):
        return {
            name: model.base_model.model.get_submodule(name).get_delta_weight("default")
            for name in TARGETS
        }


CONFIGS = {
    "loha": LoHaConfig(r=2, alpha=3, target_modules=TARGETS, init_weights=False),
    "loha, kernels": LoHaConfig(r=2, alpha=3, target_modules=TARGETS, init_weights=False,
                                use_effective_conv2d=True),
    "loha, rules": LoHaConfig(r=2, alpha=3, target_modules=TARGETS, init_weights=False,
                              rank_pattern={"linear": 3}, alpha_pattern={"conv": 5}),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=TARGETS, init_weights=False),
    "lokr, kernels": LoKrConfig(r=1, alpha=3, target_modules=TARGETS, init_weights=False,
                                use_effective_conv2d=True),
    "lokr, both": LoKrConfig(r=1, alpha=3, target_modules=TARGETS, init_weights=False, decompose_both=True),
    "lokr, whole": LoKrConfig(r=16, alpha=3, target_modules=TARGETS, init_weights=False),
    "lokr, rules": LoKrConfig(r=2, alpha=3, target_modules=TARGETS, init_weights=False,
                              rank_pattern={"linear": 1, "small": 7}, alpha_pattern={"small": 5}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_update_is_what_peft_adds(tmp_path, name):
    deltas = saved(tmp_path, CONFIGS[name])
    lora = read_lora(tmp_path)
    assert set(lora) == set(deltas)
    for layer, delta in deltas.items():
        update = lora[layer].dense().reshape(delta.shape)
        assert float((update - delta).norm() / delta.norm()) < 1e-5, layer
        assert isinstance(lora[layer], Hadamard | Kronecker) or lora[layer].rank
    assert (lora.provenance.outcome, lora.provenance.format) == ("exact", "peft")
    rank = CONFIGS[name].rank_pattern.get("linear", CONFIGS[name].r)
    assert lora.provenance.scales["linear"].factor == pytest.approx(3 / rank)
    assert sniff(tmp_path).format == "peft"


def test_without_a_configuration_the_scale_is_open(tmp_path):
    deltas = saved(tmp_path, CONFIGS["lokr"])
    (tmp_path / "adapter_config.json").unlink()
    lora = read_lora(tmp_path)
    torch.testing.assert_close(lora["linear"].dense() * 1.5, deltas["linear"])
    assert [line.partition(":")[0] for line in lora.provenance.ambiguities] == ["scale"]


def test_injected_without_the_prefix_and_with_the_name_left_in(tmp_path):
    deltas = saved(tmp_path, CONFIGS["loha"])
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    dumped = {
        f"{key.removeprefix('base_model.model.')}.default": t.clone() for key, t in tensors.items()
    }
    save_file(dumped, tmp_path / "dump.safetensors")
    lora = read_lora(tmp_path / "dump.safetensors")
    torch.testing.assert_close(lora["linear"].dense(), deltas["linear"])


def test_what_does_not_fit_and_what_is_missing(tmp_path):
    saved(tmp_path, CONFIGS["loha"])
    path = tmp_path / "adapter_model.safetensors"
    tensors = {key: t.clone() for key, t in load_file(path).items()}
    key = next(key for key in tensors if "linear" in key and "hada_w2_b" in key)
    save_file({k: t for k, t in tensors.items() if k != key}, tmp_path / "half.safetensors")
    with pytest.raises(FormatError, match="expected hada_w2_b beside it"):
        read_lora(tmp_path / "half.safetensors")
    save_file(tensors | {key: torch.ones(5, 24)}, tmp_path / "odd.safetensors")
    with pytest.raises(FormatError, match="do not go together"):
        read_lora(tmp_path / "odd.safetensors")


def test_alpha_is_peft_s_default_where_it_is_not_said(tmp_path):
    saved(tmp_path, CONFIGS["loha"])
    path = tmp_path / "adapter_config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key != "alpha"}
    path.write_text(json.dumps(config))
    lora = read_lora(tmp_path)
    assert lora.provenance.scales["linear"].factor == 4.0
    assert "no alpha" in lora.provenance.ambiguities[0]


@pytest.mark.parametrize("name", ["loha", "lokr, whole"])
def test_it_can_be_written_and_read_again(tmp_path, name):
    saved(tmp_path / "a", CONFIGS[name])
    lora = read_lora(tmp_path / "a")
    again = read_lora(write_lora(lora, tmp_path / "b"))
    for layer in lora:
        torch.testing.assert_close(again[layer].dense(), lora[layer].dense(), rtol=1e-4, atol=1e-4)
