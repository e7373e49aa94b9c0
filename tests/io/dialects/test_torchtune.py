"""torchtune's names and scale; the same LoRA as its PEFT export, by its own converter."""

import importlib.metadata
import importlib.util

import pytest
import torch
from safetensors.torch import save_file

from lorascope.io import read_lora

DRAW = torch.Generator().manual_seed(0)
A, B = torch.randn(2, 4, generator=DRAW), torch.randn(6, 2, generator=DRAW)
CONFIG = '{"peft_type": "LORA", "r": 2, "lora_alpha": 6}'


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("layers.3.attn.output_proj", "model.layers.3.self_attn.o_proj"),
     ("layers.3.mlp.w3", "model.layers.3.mlp.up_proj"),
     ("output", "lm_head"), ("layers.0.riddle", "model.layers.0.riddle"), ("strange.w", "strange.w")],
)  # fmt: skip
def test_names_and_scale(tmp_path, theirs, ours):
    save_file(
        {f"{theirs}.lora_a.weight": A, f"{theirs}.lora_b.weight": B}, tmp_path / "a.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(CONFIG)
    lora = read_lora(tmp_path / "a.safetensors")
    torch.testing.assert_close(lora[ours].dense(), 3 * B @ A)
    assert (lora.provenance.format, lora.provenance.outcome) == ("torchtune", "exact")
    export = {
        f"base_model.model.{ours}.lora_A.weight": A,
        f"base_model.model.{ours}.lora_B.weight": B,
    }
    save_file(export, tmp_path / "adapter_model.safetensors")
    torch.testing.assert_close(read_lora(tmp_path)[ours].dense(), lora[ours].dense())


def test_rotary_rows_dora_and_an_absent_configuration(tmp_path):
    name = "layers.0.attn.q_proj"
    tensors = {
        f"{name}.lora_a.weight": A,
        f"{name}.lora_b.weight": B,
        f"{name}.magnitude": torch.ones(6),
    }
    torch.save(tensors, tmp_path / "adapter_model.pt")
    lora = read_lora(tmp_path, allow_pickle=True)
    assert {line.partition(":")[0] for line in lora.provenance.ambiguities} == {"scale", "rotary"}
    assert lora.provenance.outcome == "part"
    torch.testing.assert_close(lora["model.layers.0.self_attn.q_proj"].dense(), B @ A)


def converter():
    """torchtune's converter; the package itself asks for far more than this one file of it needs."""
    try:
        distribution = importlib.metadata.distribution("torchtune")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torchtune is not installed")
    path = distribution.locate_file("torchtune/models/convert_weights.py")
    spec = importlib.util.spec_from_file_location("torchtune_convert_weights", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_same_lora_as_its_own_export(tmp_path):
    """All layers but q and k as they are, those in the order of the rows that torchtune's converter makes."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"attn.q_proj": (16, 8), "attn.k_proj": (8, 8), "attn.v_proj": (8, 8), "attn.output_proj": (8, 16),
              "mlp.w1": (12, 8), "mlp.w2": (8, 12), "mlp.w3": (12, 8)}  # fmt: skip
    tensors = {}
    for name, (n, m) in shapes.items():
        tensors[f"layers.1.{name}.lora_a.weight"] = torch.randn(2, m, generator=generator)
        tensors[f"layers.1.{name}.lora_b.weight"] = torch.randn(n, 2, generator=generator)
    heads = {"num_heads": 4, "num_kv_heads": 2, "dim": 8, "head_dim": 4}
    export = converter().tune_to_peft_adapter_weights(dict(tensors), **heads)
    for folder, files in (("tune", tensors), ("peft", export)):
        (tmp_path / folder).mkdir()
        save_file(
            {k: t.contiguous() for k, t in files.items()},
            tmp_path / folder / "adapter_model.safetensors",
        )
        (tmp_path / folder / "adapter_config.json").write_text(CONFIG)
    tune, peft = read_lora(tmp_path / "tune"), read_lora(tmp_path / "peft")
    assert set(tune) == set(peft)
    for name in peft:
        ours = tune[name].dense()
        if name.endswith(("q_proj", "k_proj")):
            ours = ours.view(-1, 2, 2, 8).transpose(1, 2).reshape(-1, 8)
        torch.testing.assert_close(ours, peft[name].dense())
