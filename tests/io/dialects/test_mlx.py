"""MLX: transposed factors and a scale that is used as it is, by the equation of mlx-lm."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lorascope.errors import FormatError
from lorascope.io import read_lora, write_lora

Q = "model.layers.9.self_attn.q_proj"
A, B = torch.randn(4, 2), torch.randn(2, 6)
CONFIG = {
    "fine_tune_type": "lora",
    "model": "mlx-community/tiny",
    "lora_parameters": {"rank": 2, "scale": 20.0},
}


def folder(tmp_path, tensors, config=CONFIG):
    save_file(tensors, tmp_path / "adapters.safetensors")
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


def forward(x, a, b, scale):
    """mlx-lm's LoRALinear without the base layer: (x @ lora_a) @ lora_b * scale."""
    return (x @ a) @ b * scale


def test_the_update_is_what_the_layer_adds(tmp_path):
    lora = read_lora(folder(tmp_path, {f"{Q}.lora_a": A, f"{Q}.lora_b": B}))
    torch.testing.assert_close(lora[Q].matvec(torch.eye(4)), forward(torch.eye(4), A, B, 20.0))
    assert (lora.provenance.outcome, lora.provenance.base) == ("exact", "mlx-community/tiny")
    assert lora.provenance.scales[Q].rule == "scale"


def test_experts_are_layers_of_their_own(tmp_path):
    a, b = torch.randn(3, 2, 4), torch.randn(3, 6, 2)
    lora = read_lora(folder(tmp_path, {f"{Q}.lora_a": a, f"{Q}.lora_b": b}))
    assert list(lora) == [f"{Q}.{e}" for e in range(3)]
    torch.testing.assert_close(lora[f"{Q}.1"].dense(), 20 * b[1] @ a[1])
    with pytest.raises(FormatError, match="experts"):
        read_lora(folder(tmp_path, {f"{Q}.lora_a": a, f"{Q}.lora_b": b[:2]}))


def test_dora_full_and_missing_configurations(tmp_path):
    tensors = {
        f"{Q}.lora_a": A,
        f"{Q}.lora_b": B,
        f"{Q}.m": torch.ones(6),
        "norm.weight": torch.ones(3),
    }
    lora = read_lora(folder(tmp_path, tensors))
    assert {line.partition(":")[0] for line in lora.provenance.left} == {"dora_rows", "unknown"}
    full = read_lora(
        folder(tmp_path, {f"{Q}.weight": torch.ones(3, 3)}, {"fine_tune_type": "full"})
    )
    assert (len(full), full.side[f"{Q}.weight"].kind) == (0, "full")
    (tmp_path / "adapter_config.json").unlink()
    lora = read_lora(folder(tmp_path, {f"{Q}.lora_a": A, f"{Q}.lora_b": B}, None))
    assert lora.provenance.ambiguities[0].startswith("scale: ")
    with pytest.raises(FormatError, match="expected a finite number"):
        read_lora(
            folder(
                tmp_path,
                {f"{Q}.lora_a": A, f"{Q}.lora_b": B},
                {"fine_tune_type": "lora", "lora_parameters": {"scale": "x"}},
            )
        )
    with pytest.raises(FormatError, match="expected up beside it"):
        read_lora(folder(tmp_path, {f"{Q}.lora_a": A}))


def test_the_same_adapter_as_peft(tmp_path):
    lora = read_lora(folder(tmp_path, {f"{Q}.lora_a": A, f"{Q}.lora_b": B}))
    again = read_lora(write_lora(lora, tmp_path / "peft"))
    assert list(again) == list(lora)
    torch.testing.assert_close(again[Q].dense(), lora[Q].dense())
