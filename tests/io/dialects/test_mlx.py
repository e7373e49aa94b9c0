"""MLX: transposed factors and a scale that is used as it is, by mlx-lm itself and by its equation."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lorascope.errors import FormatError
from lorascope.io import read_lora, write_lora

Q = "model.layers.9.self_attn.q_proj"
DRAW = torch.Generator().manual_seed(0)
A, B = torch.randn(4, 2, generator=DRAW), torch.randn(2, 6, generator=DRAW)
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


def linear(core):
    """mlx-lm's layer over a base of zeros, so that it gives its update alone."""
    lora = pytest.importorskip("mlx_lm.tuner.lora")
    nn = pytest.importorskip("mlx.nn")
    base = nn.Linear(4, 6, bias=False)
    base.weight = core.zeros((6, 4))
    return lora.LoRALinear.from_base(base, r=2, scale=20.0)


def test_the_update_is_what_mlx_lm_adds(tmp_path):
    """The layer of mlx-lm itself, its weights in the file that it saves, its scale in the configuration."""
    core = pytest.importorskip("mlx.core")
    layer = linear(core)
    layer.lora_b = core.array(B.numpy())
    weights = {f"{Q}.lora_a": layer.lora_a, f"{Q}.lora_b": layer.lora_b}
    for name, save in (("adapters.safetensors", core.save_safetensors), ("adapters.npz", None)):
        place = tmp_path / name.rpartition(".")[2]
        place.mkdir()
        if save is None:
            core.savez(str(place / name), **weights)
        else:
            save(str(place / name), weights, metadata={"format": "mlx"})
        (place / "adapter_config.json").write_text(json.dumps(CONFIG))
        lora = read_lora(place)
        added = torch.tensor(layer(core.eye(4)).tolist())
        torch.testing.assert_close(lora[Q].matvec(torch.eye(4)), added, rtol=1e-5, atol=1e-5)
        fused = torch.tensor(layer.fuse().weight.tolist())
        torch.testing.assert_close(lora[Q].dense(), fused, rtol=1e-5, atol=1e-5)


def test_experts_are_what_mlx_lm_adds(tmp_path):
    core = pytest.importorskip("mlx.core")
    tuner = pytest.importorskip("mlx_lm.tuner.lora")
    switch = pytest.importorskip("mlx_lm.models.switch_layers")
    base = switch.SwitchLinear(4, 6, 3, bias=False)
    base.weight = core.zeros((3, 6, 4))
    layer = tuner.LoRASwitchLinear.from_base(base, r=2, scale=20.0)
    layer.lora_b = core.random.normal(layer.lora_b.shape)
    core.save_safetensors(
        str(tmp_path / "adapters.safetensors"),
        {f"{Q}.lora_a": layer.lora_a, f"{Q}.lora_b": layer.lora_b},
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    lora = read_lora(tmp_path)
    fused = torch.tensor(layer.fuse().weight.tolist())
    for expert in range(3):
        torch.testing.assert_close(
            lora[f"{Q}.{expert}"].dense(), fused[expert], rtol=1e-5, atol=1e-5
        )


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
