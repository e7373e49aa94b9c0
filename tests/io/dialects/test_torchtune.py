"""torchtune's names and scale; without rotary layers the same LoRA as its PEFT export."""

import pytest
import torch
from safetensors.torch import save_file

from lorascope.io import read_lora

A, B = torch.randn(2, 4), torch.randn(6, 2)
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
